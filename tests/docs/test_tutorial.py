"""The tutorial, typed line by line into a shell in an empty folder."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks

TUTORIAL = ROOT / "docs" / "tutorial" / "own_pictures.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all of it was typed, and what was printed, in ``printed``."""
    place = tmp_path_factory.mktemp("tutorial")
    (place / "docs" / "tutorial").mkdir(parents=True)
    shutil.copy(TUTORIAL.with_name("make_pictures.py"), place / "docs" / "tutorial")
    environment = os.environ | {
        "CL_LIGHTNING_CACHE": str(place / "cache"),
        "CL_LIGHTNING_REPORT": "true",  # which is a part of it
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    script = "set -e\n" + "".join(blocks(TUTORIAL.read_text(encoding="utf-8"), "sh"))
    done = subprocess.run(["bash", "-c", script], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (place / "printed").write_text(done.stdout)
    return place


@pytest.mark.long  # .ci/run has it
@pytest.mark.timeout(600)
def test_every_command_does_what_the_page_says(folder: Path) -> None:
    printed = (folder / "printed").read_text()
    assert printed.count("all seen") == 2
    for run, tasks, classes in (("cloth_run", 2, 4), ("cloth_run_5", 3, 5)):
        results = json.loads((folder / run / "results.json").read_text())
        assert len(results["tasks"]) == tasks
        assert sum(len(task["classes"]) for task in results["tasks"]) == classes
        assert (folder / run / "report.html").exists()
        assert results["last_accuracy"] > 0.5, "it has learnt: a guess is right once in four or five times"
    predicted = [line.split() for line in printed.splitlines() if line.startswith(("cloth/", "more/"))]
    assert [words[0] for words in predicted] == [
        "cloth/dots/003.png",
        "cloth/rings/007.png",
        "more/plain/000.png",
        "cloth/stripes/001.png",
    ]
    assert predicted[2][1] == "plain", "the class that was added"
    told = [line.split() for line in TUTORIAL.read_text(encoding="utf-8").splitlines() if line.startswith("cloth/")]
    shown = [words for words in told if len(words) == 4]
    assert len(shown) == 2
    for words, page in zip(predicted, shown, strict=False):
        assert (words[1], words[3]) == (page[1], page[3])
        assert float(words[2]) == pytest.approx(float(page[2]), abs=0.2), "what the page says of other processors"


def test_the_matrix_on_the_page_adds_up() -> None:
    """The last column is the mean over the test images: of 32, 32 and 16 here."""
    text = TUTORIAL.read_text(encoding="utf-8")
    rows = [line.split() for block in blocks(text, "text") if "all seen" in block for line in block.splitlines()[1:]]
    counts = [32, 32, 16]
    for _, *cells, seen in csv.reader([",".join(row) for row in rows]):
        hits = [float(cell) * count for cell, count in zip(cells, counts, strict=False)]
        assert float(seen) == pytest.approx(sum(hits) / sum(counts[: len(cells)]), abs=0.01)
