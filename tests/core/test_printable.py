"""What a terminal would carry out is told as escapes, wherever the program tells something."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cl_lightning.core.cli import carried_out
from cl_lightning.core.errors import UserError
from cl_lightning.core.printable import PrintableFormatter, json_for_terminals, printable, printable_lines
from cl_lightning.run.job import report_error

EVIL = "cat\x1b[2J\x1b]0;title\x07\x9b31m\u202etxt.gnp\u2066\r\x08\x7f"


def is_safe(text: str) -> bool:
    return printable_lines(text) == text


@pytest.mark.parametrize(
    "name", ["cat.png", "Füchse", "\u65e5\u672c\u3000\u8a9e", "\U0001f469\u200d\U0001f52c", "naïve e\u0301", "a\xa0b"]
)
def test_names_of_all_languages_stay(name: str) -> None:
    assert printable(name) == printable_lines(name) == name


def test_what_is_carried_out_is_escaped() -> None:
    assert is_safe(printable(EVIL))
    assert printable("a\nb\tc") == "a\\nb\\tc"
    assert printable_lines("a\nb\tc\x1b") == "a\nb\tc\\x1b"
    assert printable("a\udcffb") == "a\\udcffb"


def test_json_means_the_same() -> None:
    text = json.dumps({"file": EVIL}, ensure_ascii=False, indent=1)
    assert is_safe(json_for_terminals(text))
    assert json.loads(json_for_terminals(text)) == {"file": EVIL}


def test_a_log_takes_no_line_from_a_name() -> None:
    record = logging.LogRecord(
        "a", logging.WARNING, "f", 1, "read %s of %d (%.1f)", (f"{EVIL}\nerror: x", 3, 0.5), None
    )
    line = PrintableFormatter("%(levelname)s %(message)s").format(record)
    assert is_safe(line)
    assert "\n" not in line
    assert line.endswith(" of 3 (0.5)")
    assert record.args == (f"{EVIL}\nerror: x", 3, 0.5), "other handlers see what was handed over"


def test_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise UserError(f"{EVIL}\nerror: another does not exist")

    assert carried_out(fail) == 2
    report_error(f"{EVIL}\nerror: another")
    told = capsys.readouterr().err
    assert is_safe(told)
    assert len(told.splitlines()) == 2


@pytest.mark.long
def test_a_run_on_evil_names_sends_a_terminal_nothing(tmp_path: Path) -> None:
    """Its lines, its log, its table, its report, and what predict and compare print."""
    root, run_dir = tmp_path / "data", tmp_path / f"run{EVIL}"
    for number, name in enumerate((f"dog{EVIL}", f"=1+1{EVIL}")):
        (root / name).mkdir(parents=True)
        for index in range(6):
            pixels = np.random.RandomState(10 * number + index).randint(0, 256, (12, 12, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index}{EVIL}.png")
    (root / f"notes{EVIL}.txt").write_text("x")
    (root / f"dog{EVIL}" / f"broken{EVIL}.png").write_text("x")

    def told(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command], capture_output=True, check=False, cwd=Path(__file__).parents[2]
        )
        assert done.returncode in (0, 1), done.stderr.decode()
        return (done.stdout + done.stderr).decode("utf-8", "surrogateescape").replace("images\r", "images\n")

    small = [
        "debug=smoke",
        "method=icarl",
        "model=resnet8",
        "memory.size=4",
        "logger=none",
        "trainer.progress=lines",
        "verbose=2",
        "report.page=true",
    ]
    where = ["data=image_folder", f"data.root={root}", "data.increment=1", "data.image_size=16", "data.on_broken=skip"]
    assert is_safe(told("cl_lightning", *small, *where, f"run_dir={run_dir}"))
    assert is_safe((run_dir / "run.log").read_text())
    page = (run_dir / "report.html").read_text()
    assert "\x1b" not in page
    assert "\u202e" not in page
    for form in ("table", "csv", "json"):
        assert is_safe(told("cl_lightning.predict", str(run_dir), str(root), "--format", form))
    assert is_safe(told("cl_lightning.predict", str(run_dir), str(root), "--task", "1"))
    for form in ("table", "csv", "json"):
        assert is_safe(told("cl_lightning.evaluate", str(run_dir), str(root), "--format", form))
    assert is_safe(told("cl_lightning.evaluate", str(run_dir)))
    assert is_safe(told("cl_lightning.compare", str(run_dir)))
    assert is_safe(told("cl_lightning.bundle", "export", str(run_dir), f"{tmp_path}/b{EVIL}"))
    assert is_safe(told("cl_lightning.bundle", "import", f"{tmp_path}/b{EVIL}", f"{tmp_path}/again{EVIL}"))
