"""The form of a checkpoint: of a run at its end and within a task; what is not of it is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cl_lightning.checkpoint.files import VERSION
from cl_lightning.checkpoint.schema import check_state
from cl_lightning.core.types import PROTOCOLS
from tests.checkpoint.a_state import changed, rows, state, task_record, within


@pytest.mark.parametrize("done", [0, 1, 2])
def test_what_is_written_after_a_task_passes(done: int) -> None:
    check_state(state(done), "it")


def test_what_is_written_within_a_task_passes() -> None:
    check_state(within(), "it")
    early = changed(within(), "matrices", {protocol: {"linear": rows(2)} for protocol in PROTOCOLS})
    check_state(early, "it")  # a task that is evaluated and not yet ended


def test_earlier_files_lack_some_and_later_ones_may_have_more() -> None:
    made = state()
    for name in ("phases", "answers", "commits", "after_phases"):
        del made[name]
    made["later"] = object()
    check_state(made, "it")


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("version", VERSION + 1, f"it.version is {VERSION + 1}, not {VERSION}"),
        ("network", ..., "it has no network"),
        ("network.weights.head", [1.0], "it.network.weights.'head' is a list, not a tensor"),
        ("identity.class_names", ["a"], "it is of 2 tasks of [2, 1] classes, and names 1"),
        ("identity.protocol.tasks", [3, 0], "it.identity.protocol.tasks[1] is 0, not a whole number from 1 on"),
        ("identity.protocol.method", 3, "it.identity.protocol.method is 3, not text"),
        ("records.1.classes", [1], "it.records[1] is of other classes than its task"),
        ("records.0.index", 1, "it.records[0] is of other classes than its task"),
        ("records.0.seconds", "1", "it.records[0].seconds is '1', not a number"),
        ("memory.scope", "local", "it.memory.scope is 'local', not global or per_replica"),
        ("memory.lists", [{3: [5]}], "a key of it.memory.lists[0] is 3, not a whole number from 0 to 2"),
        ("memory.lists", [{0: [2.5]}], "it.memory.lists[0].0[0] is 2.5, not text"),
        ("cursor.items", 1, "it.cursor.items is 1, not 0"),
        ("extra.key", 2.5, "it.extra.'key' is a float, not a tensor"),
        ("answers.confusion", torch.zeros(3, 3), "it.answers.confusion is no table of counts"),
        ("answers.confusion", torch.zeros(3, dtype=torch.int64), "it.answers.confusion is no table of counts"),
        ("matrices.accuracy", {}, "a key of it.matrices is 'accuracy', not "),
        (f"matrices.{PROTOCOLS[0]}.linear", rows(1), "does not count each task learnt"),
        (f"matrices.{PROTOCOLS[0]}.means", rows(2), "it.matrices has not the same read-outs of each protocol"),
        ("precisions.0", ("main", 0, "32-true"), "it.precisions[0][0] is 'main', not a whole number from 0 on"),
        ("after_phases.0.counts", {PROTOCOLS[0]: {"linear": []}}, "counts no task"),
    ],
)
def test_what_is_not_of_a_finished_run_is_named(path: str, value: Any, line: str) -> None:
    with pytest.raises(ValueError) as refused:
        check_state(changed(state(), path, value), "it")
    assert line in str(refused.value)


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("cursor.left.stopping.weights", [], "it.cursor.left.stopping.weights is a list of 0, not a mapping"),
        ("cursor.left.stopping.best", "0.5", "it.cursor.left.stopping.best is '0.5', not a number"),
        ("cursor.left.steps", 0, "it.cursor.left.steps is 0, not a whole number from 1 on"),
        ("cursor.left.optimiser.state", {"a": {}}, "a key of it.cursor.left.optimiser.state is 'a'"),
        ("cursor.left.more", 1, "it.cursor.left has 'more', which nothing reads"),
        ("records", [], "is of other classes"),
    ],
)
def test_what_is_not_of_a_run_on_its_way_is_named(path: str, value: Any, line: str) -> None:
    made = changed(within(), path, value)
    if path == "records":
        made["records"] = [task_record(0, [1, 0])]
    with pytest.raises(ValueError) as refused:
        check_state(made, "it")
    assert line in str(refused.value)
