"""Each view against a memory and tasks made by hand."""

from __future__ import annotations

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


MANY = torch.arange(120) % 4
"""Thirty rows of each of four classes: row r is of class r % 4."""
MANY_TASKS = (
    Task(0, (0, 1), ("a", "b"), torch.arange(120)[MANY < 2], torch.tensor([0])),
    Task(1, (2, 3), ("c", "d"), torch.arange(120)[MANY > 1], torch.tensor([1])),
)


def of_class(label: int, *places: int) -> Tensor:
    """The rows of a class at some places of its own."""
    return torch.tensor(places, dtype=torch.int64) * 4 + label


SHARED = memory({0: of_class(0, *range(20)), 1: of_class(1, *range(20))})
APART = memory(
    {0: of_class(0, *range(20)), 1: of_class(1, *range(20))},
    {0: of_class(0, *range(10, 30)), 1: of_class(1, *range(5, 25))},
)
SPLITS = [pytest.param(SHARED, id="one list"), pytest.param(APART, id="a list for each replica")]


def held(kept: RehearsalMemory, replica: int = 0, phase: str = "bias") -> list[int]:
    return view(View.HELD_OUT, MANY_TASKS, kept, replica, phase=phase, labels=MANY)


def trained(kept: RehearsalMemory, replica: int = 0, phase: str = "main") -> list[int]:
    return view(View.MERGED_WITHOUT_HELD_OUT, MANY_TASKS, kept, replica, phase=phase, labels=MANY)


@pytest.mark.parametrize("kept", SPLITS)
@pytest.mark.parametrize("replica", [0, 1])
def test_what_is_held_out_and_what_is_not_are_merged_together(kept: RehearsalMemory, replica: int) -> None:
    merged = view(View.MERGED, MANY_TASKS, kept, replica, labels=MANY)
    out, rest = held(kept, replica), trained(kept, replica)
    assert not set(out) & set(rest)
    assert sorted(out + rest) == sorted(merged)
    assert rest == [row for row in merged if row not in out], "in the order of MERGED"


@pytest.mark.parametrize("kept", SPLITS)
def test_no_replica_trains_on_what_another_holds_out(kept: RehearsalMemory) -> None:
    """They train one network, so a row that one of them holds out is seen by none."""
    out = {row for replica in range(2) for row in held(kept, replica)}
    assert not out & {row for replica in range(2) for row in trained(kept, replica)}


@pytest.mark.parametrize("which", [View.HELD_OUT, View.MERGED_WITHOUT_HELD_OUT])
@pytest.mark.parametrize("kept", SPLITS)
def test_two_phases_of_a_task_see_one_split(which: View, kept: RehearsalMemory) -> None:
    one, other = (view(which, MANY_TASKS, kept, 1, phase=phase, labels=MANY) for phase in ("main", "bias"))
    assert one == other


def test_the_held_out_set_is_balanced_and_a_tenth_of_the_exemplars() -> None:
    assert [int(n) for n in MANY[held(SHARED)].bincount()] == [2, 2, 2, 2]
    few = memory({0: of_class(0, *range(3)), 1: of_class(1, *range(3))})
    assert [int(n) for n in MANY[held(few)].bincount()] == [1, 1, 1, 1], "one at least"
    unequal = memory({0: of_class(0, 4), 1: of_class(1, *range(20))})
    assert [int(n) for n in MANY[held(unequal)].bincount()] == [0, 2, 2, 2], "never the last exemplar"


def test_without_old_classes_a_share_of_the_new_images_is_held_out() -> None:
    found = view(View.HELD_OUT, MANY_TASKS[:1], EMPTY, labels=MANY)
    assert [int(n) for n in MANY[found].bincount()] == [3, 3]
    rest = view(View.MERGED_WITHOUT_HELD_OUT, MANY_TASKS[:1], EMPTY, labels=MANY)
    assert sorted(found + rest) == MANY_TASKS[0].train.tolist()


def test_what_was_held_out_before_comes_first_while_the_memory_shrinks() -> None:
    before = {row for row in held(SHARED) if MANY[row] < 2}
    first = {label: [row for row in before if MANY[row] == label] for label in (0, 1)}
    others = {label: [row for row in SHARED.lists[0][label].tolist() if row not in before] for label in (0, 1)}
    smaller = memory({label: rows(*others[label][:8], *first[label]) for label in (0, 1)})
    still = {row for row in held(smaller) if MANY[row] < 2}
    assert len(still) == 2
    assert still < before


def test_held_out_images_depend_on_the_seed() -> None:
    found = {tuple(view(View.HELD_OUT, MANY_TASKS, SHARED, key=key, labels=MANY)) for key in range(20)}
    assert len(found) > 15


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
