"""Views: the training rows of a phase, one pure function a view.

A view contains old classes through the memory only; ``CUMULATIVE`` is the exception, and its name says that it is no
rehearsal protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Task, View


class Exemplars(Protocol):
    """Interface of the rehearsal memory to a view."""

    def rows(self, replica: int = 0) -> Tensor:
        """Return all exemplars of a replica: classes ascending, best first within a class."""
        ...

    def exemplars(self, replica: int = 0) -> dict[int, Tensor]:
        """Return label -> rows of a replica, best first."""
        ...

    def held_out_rows(self) -> Tensor:
        """Return all rows that are held out of training: classes ascending."""
        ...

    @property
    def held_out(self) -> Mapping[int, Tensor]:
        """Label -> rows that are held out of training."""
        ...


@dataclass(frozen=True)
class ViewKey:
    """The random stream of a view."""

    run: Key
    """Key of the run; a view that draws folds into it what its rows depend on, a task or a class."""
    phase: str
    """Name of the phase, for ``BALANCED``, which draws anew for every phase."""


def view_rows(
    view: View, tasks: Sequence[Task], memory: Exemplars, labels: Tensor, replica: int, key: ViewKey
) -> Tensor:
    """Return (n,) int64 rows of the training source for the last of ``tasks`` (all tasks so far), for ``replica``.

    ``labels`` gives each row's global label; ``key`` is used where a view draws at random.
    """
    held = memory.held_out_rows()
    learnt = [replace(task, train=without(task.train, held)) for task in tasks] if len(held) else tasks
    return _VIEWS[view](learnt, memory, labels, replica, key)


def without(rows: Tensor, held: Tensor) -> Tensor:
    """Return the rows that are not held out of training, in their order."""
    return rows[~torch.isin(rows, held)]


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
    parts = list(balanced_held_out(memory.held_out, tasks[-1]).values())
    return torch.cat(parts) if parts else torch.empty(0, dtype=torch.int64)


def balanced_held_out(held: Mapping[int, Tensor], task: Task) -> dict[int, Tensor]:
    """Return label -> rows that are held out, labels ascending, of a new class no more than of an old one.

    Of a new class more may be held out (BiC's authors set all aside at the first task's size); only as many are used.
    """
    sizes = [len(rows) for label, rows in held.items() if label < task.num_old]
    count = max(sizes, default=max(map(len, held.values()), default=0))
    return {label: held[label][:count] for label in sorted(held)}


def _cumulative(tasks: Sequence[Task], memory: Exemplars, labels: Tensor, replica: int, key: ViewKey) -> Tensor:
    return torch.cat([task.train for task in tasks])


_VIEWS: dict[View, Callable[[Sequence[Task], Exemplars, Tensor, int, ViewKey], Tensor]] = {
    View.NEW: _new,
    View.MERGED: _merged,
    View.HELD_OUT: _held_out,
    View.MEMORY: _memory,
    View.BALANCED: _balanced,
    View.CUMULATIVE: _cumulative,
}
