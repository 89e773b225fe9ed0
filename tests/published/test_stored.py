"""Results of a table's runs as small files: what a table needs, and nothing of the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cl_lightning.published.stored_results import condense, parse_stored, read_stored, store
from cl_lightning.published.tables import Job


def results(done: int = 3) -> dict[str, Any]:
    values = [(1.0, 1.0), (0.75, 0.9), (0.5, 0.8)][:done]
    return {
        "protocol": {"evaluation": "class_incremental", "readout": "linear", "tasks": [2, 2, 2]},
        "tasks": [
            {
                "accuracy": {"class_incremental": {"linear": one, "nme": 0.0}},
                "top5": {"class_incremental": {"linear": five}},
            }
            for one, five in values
        ],
        "provenance": {
            "commit": "abc", "host": "mine", "command": "secret", "device": "cpu", "seconds": 3.0,
            "tasks": [{"index": 0}],
        },
    }  # fmt: skip


SCIENCE = {"method.name": "dytox", "seed": 1}


def test_neither_host_nor_command_is_stored() -> None:
    found = condense(results(), SCIENCE)
    assert found["provenance"] == {"commit": "abc", "device": "cpu", "seconds": 3.0, "tasks": [{"index": 0}]}
    assert found["config"] == SCIENCE
    assert condense({**results(), "provenance": {}}, SCIENCE)["provenance"] == {"tasks": []}


def test_the_curve_before_fine_tuning_is_there_where_phases_were_evaluated() -> None:
    assert parse_stored(condense(results(), SCIENCE)).main_curve == ()
    measured = [
        {"task": task, "phase": phase, "accuracy": {"class_incremental": {"linear": value}}}
        for task, phase, value in ((0, "main", 1.0), (1, "main", 0.25), (1, "finetuning", 0.75))
    ]
    assert parse_stored(condense({**results(), "phase_accuracy": measured}, SCIENCE)).main_curve == (100, 25)


def test_metrics_by_hand() -> None:
    found = parse_stored(condense(results(), SCIENCE))
    assert found.curve == (100, 75, 50)
    assert found.metrics == pytest.approx(
        {"avg": 75, "last": 50, "avg5": 90, "last5": 80, "class_avg": 75, "class_last": 50}
    )
    assert (found.science, found.tasks, found.finished) == (SCIENCE, 3, True)
    half = parse_stored(condense(results(2), SCIENCE))
    assert not half.finished
    assert half.metrics["avg"] == pytest.approx(87.5)


def test_metrics_of_both_protocols_whichever_is_the_main_one() -> None:
    content = results()
    for task, told in zip(content["tasks"], (1.0, 0.9, 0.8), strict=True):
        task["accuracy"]["task_incremental"] = {"linear": told, "nme": 0.0}
        task["top5"]["task_incremental"] = {"linear": 1.0}
    by_class = parse_stored(condense(content, SCIENCE)).metrics
    content["protocol"]["evaluation"] = "task_incremental"
    by_task = parse_stored(condense(content, SCIENCE)).metrics
    both = {"class_avg": 75, "class_last": 50, "task_avg": 90, "task_last": 80}
    for found, prefix in ((by_class, "class"), (by_task, "task")):
        assert {name: found[name] for name in both} == pytest.approx(both)
        assert (found["avg"], found["last"]) == (found[f"{prefix}_avg"], found[f"{prefix}_last"])


def test_files_come_back_and_those_that_are_not_there_are_left_out(tmp_path: Path) -> None:
    job, other = Job("table", "dytox", "b10", "order1", ()), Job("table", "dytox", "b10", "order2", ())
    file = store(tmp_path, job, condense(results(), SCIENCE))
    assert file.is_relative_to(tmp_path)
    assert file.read_text().endswith("\n")
    found = read_stored(tmp_path, [job, other])
    assert list(found) == [job]
    assert found[job].content == condense(results(), SCIENCE)
