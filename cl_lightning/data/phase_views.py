"""Views: the training rows of a phase, one pure function a view.

A view contains old classes through the memory only; ``CUMULATIVE`` is the exception, and its name says that it is no
rehearsal protocol.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Task, View

HELD_OUT_SHARE = 0.1
"""Share of a class' images in the memory that is held out of training (BiC, Wu et al. 2019)."""


class Exemplars(Protocol):
    """Interface of the rehearsal memory to a view."""

    def rows(self, replica: int = 0) -> Tensor:
        """Return all exemplars of a replica: classes ascending, best first within a class."""
        ...

    def exemplars(self, replica: int = 0) -> dict[int, Tensor]:
        """Return label -> rows of a replica, best first."""
        ...

    @property
    def num_lists(self) -> int:
        """Number of lists, one for all replicas or one for each."""
        ...


@dataclass(frozen=True)
class ViewKey:
    """The random stream of a view: not one a phase, so that two phases of a task see one split of it."""

    run: Key
    """Key of the run; a view that draws folds into it what its rows depend on, a task or a class."""
    phase: str
    """Name of the phase, for ``BALANCED`` alone, which draws anew for every phase."""


def view_rows(
    view: View, tasks: Sequence[Task], memory: Exemplars, labels: Tensor, replica: int, key: ViewKey
) -> Tensor:
    """Return (n,) int64 rows of the training source for the last of ``tasks`` (all tasks so far), for ``replica``.

    ``labels`` gives each row's global label; ``key`` is used where a view draws at random.
    """
    return _VIEWS[view](tasks, memory, labels, replica, key)


def _new(tasks: Sequence[Task], memory: Exemplars, labels: Tensor, replica: int, key: ViewKey) -> Tensor:
    return tasks[-1].train


def _merged(tasks: Sequence[Task], memory: Exemplars, labels: Tensor, replica: int, key: ViewKey) -> Tensor:
    return torch.cat([tasks[-1].train, _old(tasks[-1], memory, replica)])


def _old(task: Task, memory: Exemplars, replica: int) -> Tensor:
    old = [rows for label, rows in sorted(memory.exemplars(replica).items()) if label < task.num_old]
    return torch.cat(old) if old else torch.empty(0, dtype=torch.int64)


def _memory(tasks: Sequence[Task], memory: Exemplars, labels: Tensor, replica: int, key: ViewKey) -> Tensor:
    return memory.rows(replica)


def _balanced(tasks: Sequence[Task], memory: Exemplars, labels: Tensor, replica: int, key: ViewKey) -> Tensor:
    task = tasks[-1]
    stream = key.run.fold("task", task.index, key.phase, "balanced")
    sizes = [len(rows) for label, rows in memory.exemplars(replica).items() if label < task.num_old]
    parts = [_old(task, memory, replica)]
    for label in task.classes:
        rows = task.train[labels[task.train] == label]
        count = max(sizes) if sizes else len(rows)
        parts.append(rows[rng.permutation(stream.fold(label), len(rows))[:count]])
    return torch.cat(parts)


def _held_out(tasks: Sequence[Task], memory: Exemplars, labels: Tensor, replica: int, key: ViewKey) -> Tensor:
    merged = _merged(tasks, memory, labels, replica, key)
    return merged[torch.isin(merged, _held_out_rows(tasks[-1], memory, labels, key.run))]


def _without_held_out(tasks: Sequence[Task], memory: Exemplars, labels: Tensor, replica: int, key: ViewKey) -> Tensor:
    merged = _merged(tasks, memory, labels, replica, key)
    return merged[~torch.isin(merged, _held_out_rows(tasks[-1], memory, labels, key.run))]


def _held_out_rows(task: Task, memory: Exemplars, labels: Tensor, key: Key) -> Tensor:
    """Return the held-out rows of all lists: the replicas train one network, so what one holds out none may train on.

    A new class has as many as an old one; where there is no old one, its own share.
    """
    old = {
        (label, index): rows
        for index in range(memory.num_lists)
        for label, rows in memory.exemplars(index).items()
        if label < task.num_old
    }
    of_an_old_class = max(map(_num_held_out, map(len, old.values())), default=0)
    parts = [_first(rows, _num_held_out(len(rows)), key, label) for (label, _), rows in old.items()]
    for label in task.classes:
        rows = task.train[labels[task.train] == label]
        wanted = of_an_old_class if old else _num_held_out(len(rows))
        parts.append(_first(rows, min(wanted, len(rows) - 1), key, label))
    return torch.cat(parts)


def _num_held_out(count: int) -> int:
    """Return how many of ``count`` images of a class are held out: one at least, and never the last."""
    return min(max(1, math.floor(HELD_OUT_SHARE * count)), count - 1) if count else 0


def _first(rows: Tensor, count: int, key: Key, label: int) -> Tensor:
    """Return the first ``count`` rows of a class in an order of its own that lasts for the whole run: of the images
    that stay in the memory, those that were held out before come first again.
    """
    order = torch.argsort(rng.bits(key.fold("held out", label), rows), stable=True)
    return rows[order[: max(0, count)]]


def _cumulative(tasks: Sequence[Task], memory: Exemplars, labels: Tensor, replica: int, key: ViewKey) -> Tensor:
    return torch.cat([task.train for task in tasks])


_VIEWS: dict[View, Callable[[Sequence[Task], Exemplars, Tensor, int, ViewKey], Tensor]] = {
    View.NEW: _new,
    View.MERGED: _merged,
    View.HELD_OUT: _held_out,
    View.MERGED_WITHOUT_HELD_OUT: _without_held_out,
    View.MEMORY: _memory,
    View.BALANCED: _balanced,
    View.CUMULATIVE: _cumulative,
}
