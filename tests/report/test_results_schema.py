"""``results.json`` of a run that somebody sent: refused in a line, or a table can be made of it."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from cl_lightning.report.costs import cost_texts
from cl_lightning.report.data import ReportInput
from cl_lightning.report.page import page
from cl_lightning.report.results_schema import check_results_file
from cl_lightning.report.sections import ACCURACY, MATRIX, TASKS
from cl_lightning.report.table import headline, protocol_line, render_table
from scripts.soak.bundles import change_value
from tests.report.a_run import full_report_data, results

EACH = {"class_incremental": {"linear": 0.5, "nme": 0.25}, "task_incremental": {"linear": 1.0}}
WHOLE: dict[str, Any] = {
    "protocol": {
        "method": "icarl", "data": "digits", "tasks": [1, 1], "seed": 0, "evaluation": "class_incremental",
        "readout": "nme",
    },
    "tasks": [
        {"index": 0, "classes": [0], "names": ["a"], "accuracy": EACH, "top5": EACH, "parameters": 3},
        {"index": 1, "classes": [1], "names": ["b"], "accuracy": EACH, "top5": EACH, "parameters": 4},
    ],
    "accuracy_matrix": {p: {name: [[0.5], [0.5, 1.0]] for name in of} for p, of in EACH.items()},
    "average_incremental_accuracy": 0.5, "last_accuracy": 0.5, "forgetting": None, "backward_transfer": 0.1,
    "parameters": 4, "costs": {"multiply_adds": 9, "multiply_adds_by_task": [None, 9]}, "notes": [],
    "provenance": {
        "commit": None, "seconds": 1.0, "peak_memory": 5, "peak_gpu_memory": None,
        "disk": {"checkpoints": 7, "exemplars": None},
        "phases": [{"task": 0, "phase": "main", "steps": 1, "images": 8, "seconds": 0.5}],
    },
}  # fmt: skip


def refusal(content: Any) -> str | None:
    try:
        check_results_file(content)
    except ValueError as error:
        return str(error)
    return None


def test_what_a_run_writes_passes() -> None:
    assert refusal(WHOLE) is None
    assert "class-incremental, nme" in render_table(WHOLE, "run")
    assert "method=icarl" in protocol_line(WHOLE)
    assert "last 50.00 %" in headline(WHOLE)


@pytest.mark.parametrize("seed", range(80))
def test_of_what_passes_a_table_can_be_made(seed: int) -> None:
    content = json.loads(json.dumps(WHOLE))
    change_value(random.Random(seed), content)
    told = refusal(content)
    if told is None:
        render_table(content, "run")
        headline(content)
        protocol_line(content)
        cost_texts(content)
    else:
        assert len(told.splitlines()) == 1
        assert len(told) < 300


@pytest.mark.parametrize("seed", range(120))
def test_of_what_passes_a_page_can_be_made(seed: int) -> None:
    """With what is known of images, and with some captions."""
    content = json.loads(json.dumps(results()))
    change_value(random.Random(seed), content)
    if refusal(content) is None:
        run = ReportInput(content, (), full_report_data())
        page(run, {section.name: "<svg></svg>" for section in (ACCURACY, MATRIX, TASKS)})


@pytest.mark.parametrize("label", ["published", "published recipe", "reference", None])
def test_a_label_is_one_of_those_that_there_are_or_not_known(label: str | None) -> None:
    assert refusal({**WHOLE, "protocol": {**WHOLE["protocol"], "origin": label}}) is None


def test_another_label_is_refused() -> None:
    told = refusal({**WHOLE, "protocol": {**WHOLE["protocol"], "origin": "best"}})
    assert told is not None
    assert told.startswith("it.protocol.origin is 'best', not published or published recipe or reconstruction or")
