"""Items of a plan that change the memory, on tasks of 2, 1 and 2 classes with twelve images each."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Evaluate, Grow, Herd, HoldOut, PlanItem, Task
from cl_lightning.memory.herding import herd, herd_distinct
from cl_lightning.memory.rehearsal import Budget, RehearsalMemory
from cl_lightning.run.memory_items import choose_exemplars, foreseen, hold_out, refuse_small
from tests.run.small_task_loop import LABELS, SCENARIO, TASKS, Plot

KEY = Key(3)
EMPTY = RehearsalMemory(Budget("total", 60), "global", 1)
FEATURES = torch.randn(len(LABELS), 5, generator=torch.Generator().manual_seed(1)) * torch.arange(1, 61)[:, None]


class FeatureEngine:
    """Embeds each row as a feature of its own."""

    def __init__(self, features: torch.Tensor) -> None:
        self.features = features

    def map_groups(self, network: Any, groups: Any, embed: Any, function: Any, *, key: Any) -> list[Any]:
        return [function(self.features[rows]) for rows in groups]


def chosen(memory: RehearsalMemory, item: Herd, task: Task, features: torch.Tensor = FEATURES) -> RehearsalMemory:
    method, engine = Plot().method, FeatureEngine(features)
    return choose_exemplars(memory, item, task, SCENARIO, method, engine, KEY)  # type: ignore[arg-type]


def plain(memory: RehearsalMemory) -> dict[int, list[int]]:
    return {label: rows.tolist() for label, rows in memory.exemplars().items()}


def rows_of(label: int) -> torch.Tensor:
    return SCENARIO.class_rows(label)


# ---- held out -------------------------------------------------------------------------------------------------------


def test_as_many_are_held_out_as_an_old_class_has_at_the_second_task() -> None:
    """60 images, two classes at first: three of 30; the classes that come later give up as many."""
    memory = EMPTY
    for task in TASKS:
        memory = hold_out(memory, HoldOut(0.1), task, SCENARIO, KEY)
        assert {len(memory.held_out[label]) for label in task.classes} == {3}
        assert all(set(memory.held_out[label].tolist()) <= set(rows_of(label).tolist()) for label in task.classes)


def test_the_choice_depends_on_the_run_s_key_and_the_class_alone() -> None:
    first = hold_out(EMPTY, HoldOut(0.1), TASKS[1], SCENARIO, KEY).held_out[2].tolist()
    later = hold_out(hold_out(EMPTY, HoldOut(0.1), TASKS[0], SCENARIO, KEY), HoldOut(0.1), TASKS[1], SCENARIO, KEY)
    assert later.held_out[2].tolist() == first
    found = {
        tuple(hold_out(EMPTY, HoldOut(0.1), TASKS[1], SCENARIO, Key(seed)).held_out[2].tolist()) for seed in range(20)
    }
    assert len(found) > 15


def test_of_a_class_with_few_images_at_most_half_is_held_out() -> None:
    few = dataclasses.replace(SCENARIO, train_labels=torch.where(torch.arange(60) < 25, LABELS, -1))
    memory = hold_out(RehearsalMemory(Budget("total", 400), "global", 1), HoldOut(0.1), TASKS[0], few, KEY)
    assert {len(rows) for rows in memory.held_out.values()} == {2}, "of five"
    single = dataclasses.replace(SCENARIO, train_labels=torch.where(torch.arange(60) < 5, LABELS, -1))
    with pytest.raises(UserError, match=r"class 0 has 1 training image, .* give it 2 or more"):
        hold_out(EMPTY, HoldOut(0.1), TASKS[0], single, KEY)


def test_a_task_that_was_not_foreseen_holds_out_what_it_needs() -> None:
    """One class more for five known ones: one of 12 images a class, not three."""
    added = dataclasses.replace(SCENARIO, newest=SCENARIO)
    memory = hold_out(EMPTY, HoldOut(0.1), TASKS[2], added, KEY)
    assert {len(rows) for rows in memory.held_out.values()} == {2}, "60 / 3 old classes, a tenth"


# ---- herding --------------------------------------------------------------------------------------------------------


def test_features_as_they_are_and_by_icarl_s_own_rule() -> None:
    memory = chosen(EMPTY, Herd(distinct=True, normalised=False), TASKS[0])
    for label in (0, 1):
        ranks = herd_distinct(FEATURES[rows_of(label)], 30, normalised=False)
        assert memory.exemplars()[label].tolist() == rows_of(label)[ranks].tolist()
    by_default = chosen(EMPTY, Herd(), TASKS[0])
    assert by_default.exemplars()[0].tolist() == rows_of(0)[herd(FEATURES[rows_of(0)], 30)].tolist()


def test_old_classes_are_chosen_anew_from_what_is_left_of_them() -> None:
    small = dataclasses.replace(EMPTY, budget=Budget("total", 12))
    first = chosen(small, Herd(), TASKS[0])
    kept = {label: set(rows) for label, rows in plain(first).items()}
    moved = FEATURES.flip(0)  # those of a network that has learnt since
    second = chosen(first, Herd(distinct=True, old_too=True), TASKS[1], moved)
    for label in (0, 1):
        left = first.exemplars()[label]
        assert plain(second)[label] == left[herd_distinct(moved[left], 4)].tolist()
        assert set(plain(second)[label]) <= kept[label]
    assert plain(second)[2] == rows_of(2)[herd_distinct(moved[rows_of(2)], 4)].tolist()
    by_cutting = chosen(first, Herd(distinct=True), TASKS[1], moved)
    assert plain(by_cutting)[0] == plain(first)[0][:4] != plain(second)[0]


def test_a_random_choice_looks_at_no_image_and_keeps_a_random_part_of_old_classes() -> None:
    class Blind:
        def map_groups(self, *arguments: Any, **named: Any) -> list[Any]:
            raise AssertionError("no image is embedded")

    def drawn(key: Key, memory: RehearsalMemory = EMPTY, task: Task = TASKS[0]) -> RehearsalMemory:
        return choose_exemplars(memory, Herd(at_random=True), task, SCENARIO, Plot().method, Blind(), key)  # type: ignore[arg-type]

    small = dataclasses.replace(EMPTY, budget=Budget("total", 12))
    first = drawn(KEY, small)
    assert plain(first) == plain(drawn(KEY, small)) != plain(drawn(Key(99), small))
    for label in (0, 1):
        assert len(set(plain(first)[label])) == 6
        assert set(plain(first)[label]) < set(rows_of(label).tolist())
        assert plain(first)[label] != sorted(plain(first)[label]), "not the first ones"
    second = drawn(KEY, first, TASKS[1])
    assert {label: plain(second)[label] for label in (0, 1)} == {label: plain(first)[label][:4] for label in (0, 1)}
    lists = RehearsalMemory(Budget("total", 24), "per_replica", 2)
    both = drawn(KEY, lists)
    assert both.exemplars(0)[0].tolist() != both.exemplars(1)[0].tolist(), "each list draws its own"


def test_as_many_of_a_new_class_as_of_an_old_one_until_it_is_herded_again() -> None:
    """The balanced set of End-to-End: beyond the budget, and only for a phase."""
    small = dataclasses.replace(EMPTY, budget=Budget("total", 12))
    first = chosen(small, Herd(as_old=True), TASKS[0])
    assert {len(rows) for rows in plain(first).values()} == {6}, "in the first task there is no old class"
    between = chosen(first, Herd(as_old=True), TASKS[1])
    assert [len(rows) for rows in plain(between).values()] == [6, 6, 6]
    assert plain(between)[0] == plain(first)[0]
    after = chosen(between, Herd(again=True), TASKS[1])
    assert [len(rows) for rows in plain(after).values()] == [4, 4, 4]


def test_what_is_held_out_is_not_herded() -> None:
    memory = chosen(hold_out(EMPTY, HoldOut(0.1), TASKS[0], SCENARIO, KEY), Herd(), TASKS[0])
    assert not set(memory.rows().tolist()) & set(memory.held_out_rows().tolist())
    assert [len(rows) for rows in plain(memory).values()] == [9, 9], "of twelve three are held out"


def test_herding_twice_is_an_error_of_the_plan() -> None:
    with pytest.raises(ValueError, match=r"classes \[0, 1\] are in the memory already"):
        chosen(chosen(EMPTY, Herd(), TASKS[0]), Herd(old_too=True), TASKS[0])


# ---- forecast -------------------------------------------------------------------------------------------------------

PLANS: list[list[PlanItem]] = [
    [Grow(), Herd(), Evaluate()],
    [HoldOut(0.1), Grow(), Herd(old_too=True), Evaluate()],
    [Grow(), Herd(as_old=True), Herd(again=True), Evaluate()],
]


@pytest.mark.parametrize("scope", ["global", "per_replica"])
@pytest.mark.parametrize("plan", PLANS)
def test_the_sizes_are_as_forecast(plan: list[PlanItem], scope: str) -> None:
    real = ahead = RehearsalMemory(Budget("total", 100), scope, 2)
    for task in TASKS:
        for item in plan:
            ahead = foreseen(ahead, item, task, SCENARIO, KEY)
            if isinstance(item, HoldOut):
                real = hold_out(real, item, task, SCENARIO, KEY)
            elif isinstance(item, Herd):
                real = chosen(real, item, task)
            for replica in range(2):
                sizes = [{label: len(rows) for label, rows in m.exemplars(replica).items()} for m in (real, ahead)]
                assert sizes[0] == sizes[1]
            assert real.held_out_rows().tolist() == ahead.held_out_rows().tolist()


def test_a_budget_that_will_not_last_is_refused_at_once() -> None:
    small = RehearsalMemory(Budget("total", 49), "global", 1)
    refuse_small(small, PLANS[0], 5)
    refuse_small(small, [Grow(), Evaluate()], 500)
    refuse_small(small, PLANS[1], 4)
    with pytest.raises(ValueError, match="size=49 is smaller than 10 images for each of the 5 classes seen"):
        refuse_small(small, PLANS[1], 5)
    with pytest.raises(ValueError, match="size=49 is smaller than the 50 classes seen"):
        refuse_small(small, PLANS[0], 50)
