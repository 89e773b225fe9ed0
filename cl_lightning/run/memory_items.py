"""The items of a plan that change the rehearsal memory: images held out of training, and exemplars.

Each has a forecast beside it, from counts alone: what it will have chosen is known only later, how many is known before
the first step.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Herd, HoldOut, PlanItem, Task
from cl_lightning.data.phase_views import without
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.learning.engine import Engine
from cl_lightning.memory.herding import herd, herd_distinct
from cl_lightning.memory.rehearsal import RehearsalMemory
from cl_lightning.methods.base import Method


def refuse_small(memory: RehearsalMemory, plan: Sequence[PlanItem], num_seen: int) -> None:
    """Raise ``ValueError`` for a budget that is too small once ``num_seen`` classes are known, if ``plan`` uses it."""
    shares = [item.share for item in plan if isinstance(item, HoldOut)]
    if shares or any(isinstance(item, Herd) for item in plan):
        memory.budget.quota(num_seen, memory.num_lists, *shares[:1])


def hold_out(memory: RehearsalMemory, item: HoldOut, task: Task, scenario: Scenario, key: Key) -> RehearsalMemory:
    """Return the memory with the new classes' images that are held out, drawn by ``key``, the run's own.

    As many of each as an old class has when the second task begins, whatever the task: what BiC's authors set aside
    for the whole run. A task that was not foreseen when the run began holds out what it needs. Of a class with few
    images it is at most half.

    Raises:
        UserError: a class with a single image.
    """
    beyond = scenario.newest is not None and task.index > 0
    count = memory.hold_out({}, item.share).held_quota(task.num_old if beyond else scenario.tasks[0].num_new)
    chosen = {}
    for label, name in zip(task.classes, task.names, strict=True):
        rows = scenario.class_rows(label)
        if len(rows) < 2:
            raise UserError(
                f"class {name} has {len(rows)} training image, and this method holds one of each class out of training "
                "beside those that it trains on: give it 2 or more"
            )
        order = torch.argsort(rng.bits(key.fold("held out", label), rows), stable=True)
        chosen[label] = rows[order[: min(count, len(rows) // 2)]]
    return memory.hold_out(chosen, item.share)


def choose_exemplars(
    memory: RehearsalMemory, item: Herd, task: Task, scenario: Scenario, method: Method, engine: Engine, key: Key
) -> RehearsalMemory:
    """Return the memory with the exemplars that ``item`` ranks, on each replica's own augmentations (``key`` is the
    item's) if each has a memory of its own.
    """
    before, shares = _before(memory, item, task), _shares(item, task)
    quota, rank = memory.quota(shares), herd_distinct if item.distinct else herd

    def best(features: Tensor) -> Tensor:
        return rank(features, quota, normalised=item.normalised)

    chosen = []
    for replica in range(memory.num_lists):
        groups = _candidates(memory, item, task, scenario, replica)
        if item.at_random:
            chosen.append({label: _shuffled(rows, key.fold(replica, label)) for label, rows in groups.items()})
            continue
        augmented = key.fold(replica) if item.augmented else None
        ranked = engine.map_groups(method.network, list(groups.values()), method.embed, best, key=augmented)
        chosen.append({label: rows[ranks] for (label, rows), ranks in zip(groups.items(), ranked, strict=True)})
    return before.update(chosen, task.num_seen, shares)


def foreseen(memory: RehearsalMemory, item: PlanItem, task: Task, scenario: Scenario, key: Key) -> RehearsalMemory:
    """Return a memory of the sizes that ``item`` will leave; its exemplars are any. ``key`` is the run's."""
    match item:
        case HoldOut():
            return hold_out(memory, item, task, scenario, key)
        case Herd():
            chosen = [_candidates(memory, item, task, scenario, replica) for replica in range(memory.num_lists)]
            return _before(memory, item, task).update(chosen, task.num_seen, _shares(item, task))
        case _:
            return memory


def _candidates(memory: RehearsalMemory, item: Herd, task: Task, scenario: Scenario, replica: int) -> dict[int, Tensor]:
    """Return label -> the rows of one list that are ranked."""
    held = memory.held_out_rows()
    new = {label: without(scenario.class_rows(label), held) for label in task.classes}
    old = memory.exemplars(replica) if item.old_too else {}
    return {**{label: rows for label, rows in old.items() if label < task.num_old}, **new}


def _shuffled(rows: Tensor, key: Key) -> Tensor:
    return rows[torch.argsort(rng.bits(key, rows), stable=True)]


def _before(memory: RehearsalMemory, item: Herd, task: Task) -> RehearsalMemory:
    """Return the memory that the chosen exemplars are added to: without an earlier choice that is made again."""
    old = range(task.num_old) if item.old_too else ()
    return memory.without({*old, *(task.classes if item.again else ())})


def _shares(item: Herd, task: Task) -> int:
    """Return the number of classes that the budget is shared by."""
    return task.num_old if item.as_old and task.num_old else task.num_seen
