"""A score as tables that fit, and as CSV and JSON that read back."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from rich.cells import cell_len

from cl_lightning.core.types import CLASS_INCREMENTAL, PROTOCOLS
from cl_lightning.deploy.score_text import as_csv, as_json, as_table
from tests.deploy.test_score import score

pytestmark = pytest.mark.slow

CALIBRATION = {
    "expected_calibration_error": 0.125,
    "confidence": "made up",
    "bins": [{"images": 0, "confidence": None, "accuracy": None}] * 10,
}


def of_classes(
    count: int, name: str = "class", readouts: tuple[str, ...] = ("linear",), per: int = 5
) -> dict[str, Any]:
    """Class number n has n % 10 of its ten images right; the others are taken for the next class."""
    right = [label % 10 for label in range(count)]
    tasks = [1 + label // per for label in range(count)]

    def each(value: Any) -> dict[str, Any]:
        return {protocol: dict.fromkeys(readouts, value) for protocol in PROTOCOLS}

    table = [[0] * count for _ in range(count)]
    for label, own in enumerate(right):
        table[label][label] = own
        table[label][(label + 1) % count] += 10 - own
    return {
        "model": {"from": "run", "stage": "whole", "protocol": {"method": "dytox", "data": "pets"}, "commit": None},
        "images": {"from": "nowhere", "evaluated": 10 * count, "unknown_classes": [], "skipped": []},
        "evaluation": CLASS_INCREMENTAL, "readout": readouts[0],
        "classes": [{"name": f"{name} {label}", "task": tasks[label], "images": 10} for label in range(count)],
        "accuracy": each(sum(right) / count / 10), "macro_accuracy": each(sum(right) / count / 10), "top5": each(1.0),
        "accuracy_by_task": each([0.5] * tasks[-1]), "accuracy_by_class": each([own / 10 for own in right]),
        "right_by_class": each(right), "confusion": dict.fromkeys(readouts, table),
        "calibration": dict.fromkeys(readouts, CALIBRATION),
    }  # fmt: skip


def lines(text: str, first: str) -> list[str]:
    return [line for line in text.splitlines() if line.split()[:1] == [first]]


def test_the_table_has_the_numbers() -> None:
    text = as_table(score(), 100)
    assert text.startswith("Accuracy in %, 7 images of 4 of 5 classes\n")
    assert lines(text, "class-incremental,")[0].split()[1:] == ["linear", "*", "57.14", "62.50", "n/a"]
    assert "Macro: mean over classes with images, each weighing the same." in text
    assert [line.split() for line in lines(text, "c")] == [["c", "2", "2", "1", "50.00"], ["c", "a", "1", "50.0"]]
    assert [line.split() for line in lines(text, "d")] == [["d", "2", "0", "0", "n/a"]]
    assert lines(text, "1")[0].split() == ["1", "3", "66.67", "33.33", "66.67", "33.33", "100.00", "100.00"]
    assert "Expected calibration error: 42.8" in text


def test_of_one_task_there_is_no_table_of_tasks() -> None:
    assert "By task" not in as_table(score(task=1), 80)
    assert "By task" in as_table(score(), 80)


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("count", [2, 10, 100, 1000])
def test_tables_fit_whatever_classes_are_called(count: int, width: int) -> None:
    names = ("linear", "entropy", "class_mean")
    for name in ("x" * 240, "é", "\u6f22" * 90, "[red]a[/red]", "a\x1b[31m"):
        text = as_table(of_classes(count, name, names), width)
        assert max(map(cell_len, text.splitlines())) <= width
        assert "\x1b" not in text
    assert "[red]a[/red]" in as_table(of_classes(2, "[red]a[/red]"), width)


def test_of_many_classes_the_lowest_are_shown() -> None:
    text = as_table(of_classes(100), 100)
    assert "the lowest 20 of 100; all of them are in --out FILE.csv" in " ".join(text.split())
    shown = [
        line for line in lines(text, "class") if line.split()[3:5] != [] and "." in line and "class" not in line[8:]
    ]
    assert [line.split()[-1] for line in shown] == ["0.00"] * 10 + ["10.00"] * 10
    assert len(lines(as_table(of_classes(60), 100), "class")) > 60, "up to sixty are shown all"


def test_of_many_tasks_the_first_and_last_are_shown() -> None:
    text = as_table(of_classes(100, per=1), 100)
    assert "The first and last 30 of 100 tasks" in text


def test_csv_reads_back() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(score()))))
    assert len(rows) == 6 * (1 + 3 + 5)
    whole = rows[0]
    assert (whole["part"], whole["images"], whole["right"], whole["top5"]) == ("all", "7", "4", "")
    assert float(whole["macro_accuracy"]) == pytest.approx(0.625)
    assert [float(row["accuracy"]) for row in rows if row["part"] == "task"][:3] == [2 / 3, 0.5, 0.5]
    of_class = [row for row in rows if row["part"] == "class"][:5]
    assert [row["class"] for row in of_class] == list("abcde")
    assert [row["accuracy"] for row in of_class] == ["0.5", "1.0", "0.5", "", "0.5"]
    formula = list(csv.DictReader(io.StringIO(as_csv(of_classes(2, "=1+1")))))
    assert formula[-1]["class"] == "'=1+1 1", "a spreadsheet carries nothing out"


def test_json_is_the_score() -> None:
    assert json.loads(as_json(score())) == score()
    assert "\x1b" not in as_json(of_classes(2, "a\x1b[31m"))
    assert as_json(of_classes(2, "a\udc80")).encode()
