"""Each view against a memory and tasks made by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cl_lightning.core.rng import Key
from cl_lightning.core.types import Task, View
from cl_lightning.data.phase_views import ViewKey, view_rows
from cl_lightning.memory.rehearsal import Budget, RehearsalMemory

LABELS = torch.tensor([0, 2, 1, 0, 1, 2, 3, 0, 1, 3, 2, 3, 2, -1, 2, 1])
"""Class 0: rows 0 3 7; 1: rows 2 4 8; 2: rows 1 5 10 12 14; 3: rows 6 9 11; row 13 is not trained on."""
TASKS = (
    Task(0, (0, 1), ("a", "b"), torch.tensor([0, 2, 3, 4, 7, 8, 15]), torch.tensor([0])),
    Task(1, (2, 3), ("c", "d"), torch.tensor([1, 5, 6, 9, 10, 11, 12, 14]), torch.tensor([1])),
)


def rows(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def memory(*lists: dict[int, Tensor]) -> RehearsalMemory:
    scope = "global" if len(lists) == 1 else "per_replica"
    return RehearsalMemory(Budget("total", 100), scope, len(lists), tuple(lists))


EMPTY = memory({})
AFTER_FIRST = memory({1: rows(8, 2), 0: rows(7, 0)})
AFTER_SECOND = memory({0: rows(7), 1: rows(8), 2: rows(12), 3: rows(9)})


def view(
    which: View,
    tasks: tuple[Task, ...],
    kept: RehearsalMemory,
    replica: int = 0,
    key: int = 0,
    phase: str = "main",
    labels: Tensor = LABELS,
) -> list[int]:
    found = view_rows(which, tasks, kept, labels, replica, ViewKey(Key(key), phase))
    assert found.dtype == torch.int64
    assert found.ndim == 1
    return found.tolist()


def test_new_is_the_task_s_own() -> None:
    assert view(View.NEW, TASKS, AFTER_FIRST) == TASKS[1].train.tolist()
    assert view(View.NEW, TASKS[:1], EMPTY) == TASKS[0].train.tolist()


def test_merged_appends_the_memory_once() -> None:
    assert view(View.MERGED, TASKS, AFTER_FIRST) == [*TASKS[1].train.tolist(), 7, 0, 8, 2]
    assert view(View.MERGED, TASKS[:1], EMPTY) == TASKS[0].train.tolist()
    assert view(View.MERGED, TASKS, EMPTY) == TASKS[1].train.tolist(), "without a memory there is nothing to append"


def test_merged_takes_no_exemplar_of_the_task_itself() -> None:
    """After herding the memory holds new classes too: their images are there already."""
    assert view(View.MERGED, TASKS, AFTER_SECOND) == [*TASKS[1].train.tolist(), 7, 8]


def test_memory_is_the_memory_alone() -> None:
    assert view(View.MEMORY, TASKS, AFTER_SECOND) == [7, 8, 12, 9]
    assert view(View.MEMORY, TASKS, AFTER_FIRST) == [7, 0, 8, 2]
    assert view(View.MEMORY, TASKS, EMPTY) == []


def test_balanced_has_as_many_images_of_a_new_class_as_of_an_old_one() -> None:
    found = view(View.BALANCED, TASKS, AFTER_FIRST)
    assert found[:4] == [7, 0, 8, 2]
    assert LABELS[found].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(set(found)) == 8


def test_balanced_after_herding_still_follows_the_old_classes() -> None:
    assert LABELS[view(View.BALANCED, TASKS, AFTER_SECOND)].tolist() == [0, 1, 2, 3]


def test_balanced_follows_the_largest_old_class_and_takes_what_there_is() -> None:
    kept = memory({0: rows(0), 1: rows(2, 4, 8)})
    assert LABELS[view(View.BALANCED, TASKS, kept)].tolist() == [0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    many = memory({0: rows(0, 3, 7), 1: rows(2, 4, 8, 15)})  # class 3 has three images only
    assert LABELS[view(View.BALANCED, TASKS, many)[7:]].tolist() == [2] * 4 + [3] * 3


def test_balanced_takes_everything_where_there_is_no_old_class() -> None:
    assert sorted(view(View.BALANCED, TASKS[:1], EMPTY)) == TASKS[0].train.tolist()


def test_balanced_draws_from_its_key() -> None:
    found = {tuple(view(View.BALANCED, TASKS, AFTER_FIRST, key=key)) for key in range(40)}
    assert len(found) > 10
    assert len({row for rows in found for row in rows if LABELS[row] == 2}) == 5, "each image has its chance"
    assert view(View.BALANCED, TASKS, AFTER_FIRST, key=3) == view(View.BALANCED, TASKS, AFTER_FIRST, key=3)


def test_cumulative_is_everything_so_far() -> None:
    assert view(View.CUMULATIVE, TASKS, EMPTY) == [*TASKS[0].train.tolist(), *TASKS[1].train.tolist()]
    assert view(View.CUMULATIVE, TASKS[:1], AFTER_FIRST) == TASKS[0].train.tolist()


def test_balanced_draws_as_it_always_has() -> None:
    """In the stream of task and phase, and as recorded before views had a key of their own."""
    assert view(View.BALANCED, TASKS, AFTER_FIRST, key=1, phase="finetuning")[4:] == [5, 10, 6, 9]
    assert view(View.BALANCED, TASKS, AFTER_FIRST, key=1, phase="classifier")[4:] == [14, 10, 11, 9]


HELD = replace(
    memory({0: rows(7, 0), 1: rows(8, 2)}),
    held_share=0.1,
    held_out={0: rows(3), 1: rows(4, 15), 2: rows(10, 1, 14), 3: rows(9)},
)
"""Two images of class 1 are held out, and up to three of a new class."""


@pytest.mark.parametrize("which", [each for each in View if each is not View.HELD_OUT])
@pytest.mark.parametrize("tasks", [TASKS[:1], TASKS])
def test_what_is_held_out_is_in_no_other_view(which: View, tasks: tuple[Task, ...]) -> None:
    found = view(which, tasks, HELD)
    assert found
    assert not set(found) & {3, 4, 15, 10, 1, 14, 9}


def test_nothing_else_is_left_out_and_the_order_stays() -> None:
    assert view(View.NEW, TASKS, HELD) == [5, 6, 11, 12]
    assert view(View.MERGED, TASKS, HELD) == [5, 6, 11, 12, 7, 0, 8, 2]
    assert view(View.CUMULATIVE, TASKS, HELD) == [0, 2, 7, 8, 5, 6, 11, 12]
    assert sorted(view(View.BALANCED, TASKS, HELD)) == [0, 2, 5, 6, 7, 8, 11, 12], (
        "as many of each new class as there are"
    )


def test_the_held_out_view_has_no_more_of_a_new_class_than_of_an_old_one() -> None:
    assert view(View.HELD_OUT, TASKS, HELD) == [3, 4, 15, 10, 1, 9]
    assert view(View.HELD_OUT, TASKS, HELD, phase="other", key=1) == view(View.HELD_OUT, TASKS, HELD)
    first = memory({}).hold_out({0: rows(3, 0), 1: rows(4)}, 0.1)
    assert view(View.HELD_OUT, TASKS[:1], first) == [3, 0, 4], "the first task has no old class"
    assert view(View.HELD_OUT, TASKS, AFTER_FIRST) == []


def test_all_replicas_see_the_same_held_out_images() -> None:
    own = memory({0: rows(0), 1: rows(2)}, {0: rows(7), 1: rows(8)}).hold_out({2: rows(10)}, 0.1)
    assert view(View.HELD_OUT, TASKS, own, 0) == view(View.HELD_OUT, TASKS, own, 1) == [10]
    assert [view(View.MERGED, TASKS, own, replica)[-2:] for replica in range(2)] == [[0, 2], [7, 8]]


@pytest.mark.parametrize("which", [View.MERGED, View.MEMORY, View.BALANCED])
def test_replicas_see_their_own_exemplars(which: View) -> None:
    own = memory({0: rows(0, 3), 1: rows(2, 4)}, {0: rows(7, 0), 1: rows(8, 2)})
    seen = [[row for row in view(which, TASKS, own, replica) if LABELS[row] < 2] for replica in range(2)]
    assert seen == [[0, 3, 2, 4], [7, 0, 8, 2]]
    shared = [[row for row in view(which, TASKS, AFTER_FIRST, replica) if LABELS[row] < 2] for replica in range(2)]
    assert shared[0] == shared[1] == [7, 0, 8, 2]


@pytest.mark.parametrize("which", list(View))
def test_no_view_changes_task_or_memory(which: View) -> None:
    before = [task.train.clone() for task in TASKS], AFTER_SECOND.state()
    view_rows(which, TASKS, AFTER_SECOND, LABELS, 0, ViewKey(Key(0), "main"))
    assert all(torch.equal(task.train, own) for task, own in zip(TASKS, before[0], strict=True))
    assert AFTER_SECOND.state() == before[1]


@pytest.mark.parametrize("which", [v for v in View if v is not View.CUMULATIVE])
def test_old_classes_are_seen_through_the_memory_alone(which: View) -> None:
    old = {row for row in view(which, TASKS, AFTER_FIRST) if 0 <= LABELS[row] < 2}
    assert old <= {7, 0, 8, 2}
