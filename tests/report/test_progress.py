"""What is told of a task or phase that has ended: one line, and points of the curves."""

from __future__ import annotations

from typing import Any

import pytest

from cl_lightning.core.types import CLASS_INCREMENTAL, TASK_INCREMENTAL
from cl_lightning.report.progress import task_line, task_scalars


def results(evaluation: str = CLASS_INCREMENTAL, last: float | None = 0.625, **changed: Any) -> dict[str, Any]:
    """After two of three tasks."""
    return {
        "protocol": {"evaluation": evaluation, "readout": "linear"},
        "tasks": [{}, {"accuracy": {evaluation: {"linear": last, "nme": None}}}],
        "accuracy_matrix": {evaluation: {"linear": [[1.0], [0.25, 0.875]]}},
        "last_accuracy": last,
        "average_incremental_accuracy": 0.75,
        "forgetting": 0.5,
        "backward_transfer": None,
        **changed,
    }


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (results(), "after task 2/3: 62.5 % of all classes seen so far"),
        (results(TASK_INCREMENTAL), "after task 2/3: 62.5 % of all classes seen so far, the task being told"),
        (
            results(last=None),
            "after task 2/3: 87.5 % of its own classes; tasks without test images were not evaluated",
        ),
    ],
    ids=["usual", "task told", "old images gone"],
)
def test_a_task_s_line(found: dict[str, Any], line: str) -> None:
    assert task_line(found, 3) == line


def test_a_task_s_points_have_the_class_balanced_accuracy_where_it_was_counted() -> None:
    macro = {CLASS_INCREMENTAL: {"linear": [0.5, 0.25], "nme": [0.5, None]}}
    points = task_scalars(results(macro_accuracy=macro, last_macro_accuracy=0.25))
    assert points["macro_accuracy"] == points[f"macro_accuracy/{CLASS_INCREMENTAL}/linear"] == 0.25
    assert f"macro_accuracy/{CLASS_INCREMENTAL}/nme" not in points


def test_a_task_s_points_are_what_is_known() -> None:
    assert task_scalars(results()) == {
        "accuracy": 0.625,
        "average_incremental_accuracy": 0.75,
        "forgetting": 0.5,
        f"accuracy/{CLASS_INCREMENTAL}/linear": 0.625,
    }
