"""Whole runs whose network sees stored images at another size: interrupted, extended, predicted by and compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from cl_lightning.bundle.__main__ import main as bundle
from cl_lightning.evaluate import main as evaluate
from tests.integration.commands import outcome, typed, write_digits

pytestmark = [pytest.mark.slow, pytest.mark.long]

OPTIONS = [
    "method=wa", "model=resnet8", "data.classes=4", "data.increment=2", "memory.size=20", "epochs_scale=0.02",
    "data.preprocess.size=12", "data.preprocess.normalise=none", "trainer.progress=none", "report.page=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs")
    assert typed(*OPTIONS, f"run_dir={place / 'whole'}") == 0
    return place


def results(run_dir: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((run_dir / "results.json").read_text())
    return read


def test_its_files_say_so(place: Path) -> None:
    saved = yaml.safe_load((place / "whole" / "config.yaml").read_text())["data"]
    assert saved["preprocess"] == {
        "size": 12, "resize": "whole", "crop_share": 0.875, "interpolation": "bicubic", "normalise": "none",
    }  # fmt: skip
    assert results(place / "whole")["protocol"]["preprocess"] == "8 -> 12 px, whole, bicubic, pixels in [0, 1]"
    assert "8 -> 12 px" in (place / "whole" / "run.log").read_text()


def test_in_two_parts_it_is_the_run_in_one(place: Path) -> None:
    parts = place / "parts"
    assert typed(*OPTIONS, f"run_dir={parts}", "trainer.stop_after_task=0") == 0
    assert typed(f"resume={parts}") == 0
    assert outcome(parts) == outcome(place / "whole")


def test_its_score_is_that_of_its_evaluation(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert evaluate([str(place / "whole"), "--format", "json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert score["accuracy"]["class_incremental"]["linear"] == results(place / "whole")["last_accuracy"]


def test_a_bundle_of_it_is_what_it_was(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exemplars are packed at their own size."""
    assert bundle(["export", str(place / "whole"), str(place / "file")]) == 0
    assert bundle(["import", str(place / "file"), str(place / "unpacked")]) == 0
    capsys.readouterr()
    scores = []
    for run_dir in (place / "whole", place / "unpacked"):
        assert evaluate([str(run_dir), "--format", "json"]) == 0
        scores.append(json.loads(capsys.readouterr().out)["accuracy"])
    assert scores[0] == scores[1]


def test_it_learns_one_task_more(place: Path, tmp_path: Path) -> None:
    folder = write_digits(tmp_path / "more")
    for old in sorted(folder.iterdir()):
        old.rename(folder / f"again {old.name}")
    extended = tmp_path / "extended"
    assert (
        typed(f"learn={place / 'whole'}", f"data.new={folder}", f"run_dir={extended}", "data.allow_similar=true") == 0
    )
    assert results(extended)["protocol"]["preprocess"].startswith("8 -> 12 px")
    assert len(results(extended)["tasks"]) == 3
    assert typed(f"learn={place / 'whole'}", f"data.new={folder}", "data.preprocess.size=8") == 2, (
        "the network is fixed"
    )
