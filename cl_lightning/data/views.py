"""Views: the training rows of a phase, one pure function a view.

A view contains old classes through the memory only; ``CUMULATIVE`` is the exception, and its name says that it is no
rehearsal protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def view_rows(view: View, tasks: Sequence[Task], memory: Exemplars, labels: Tensor, replica: int, key: Key) -> Tensor:
    """Return (n,) int64 rows of the training source for the last of ``tasks`` (all tasks so far), for ``replica``.

    ``labels`` gives each row's global label; ``key`` is used where a view draws at random.
    """
    return _VIEWS[view](tasks, memory, labels, replica, key)


def _new(tasks: Sequence[Task], memory: Exemplars, labels: Tensor, replica: int, key: Key) -> Tensor:
    return tasks[-1].train


def _merged(tasks: Sequence[Task], memory: Exemplars, labels: Tensor, replica: int, key: Key) -> Tensor:
    return torch.cat([tasks[-1].train, _old(tasks[-1], memory, replica)])


def _old(task: Task, memory: Exemplars, replica: int) -> Tensor:
    old = [rows for label, rows in sorted(memory.exemplars(replica).items()) if label < task.num_old]
    return torch.cat(old) if old else torch.empty(0, dtype=torch.int64)


def _memory(tasks: Sequence[Task], memory: Exemplars, labels: Tensor, replica: int, key: Key) -> Tensor:
    return memory.rows(replica)


def _balanced(tasks: Sequence[Task], memory: Exemplars, labels: Tensor, replica: int, key: Key) -> Tensor:
    task = tasks[-1]
    sizes = [len(rows) for label, rows in memory.exemplars(replica).items() if label < task.num_old]
    parts = [_old(task, memory, replica)]
    for label in task.classes:
        rows = task.train[labels[task.train] == label]
        count = max(sizes) if sizes else len(rows)
        parts.append(rows[rng.permutation(key.fold("balanced", label), len(rows))[:count]])
    return torch.cat(parts)


def _cumulative(tasks: Sequence[Task], memory: Exemplars, labels: Tensor, replica: int, key: Key) -> Tensor:
    return torch.cat([task.train for task in tasks])


_VIEWS: dict[View, Callable[[Sequence[Task], Exemplars, Tensor, int, Key], Tensor]] = {
    View.NEW: _new,
    View.MERGED: _merged,
    View.MEMORY: _memory,
    View.BALANCED: _balanced,
    View.CUMULATIVE: _cumulative,
}
