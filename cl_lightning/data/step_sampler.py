"""The order of a whole phase as a pure function: step number -> rows, and the position of each draw in its epoch.

A phase is addressed by its step alone, so that a loader can start anywhere, on any number of workers. A step's batch is
made of ``replicas`` equal consecutive parts, one for each virtual replica.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Order, Sampling
from cl_lightning.data.class_balance import ClassDraws


class StepIndices(NamedTuple):
    """Samples of one step."""

    rows: Tensor
    """(B,) int64 rows of the source."""
    positions: Tensor
    """(B,) int64 position of the draw in its epoch: with the epoch's key it addresses all of the draw's randomness."""
    epoch: int
    copies: Tensor | None = None
    """(B,) int64, ``row * Sampling.copies + copy``: what addresses the augmentation where an epoch goes over each image
    several times; None: the positions do.
    """


@dataclass(frozen=True, eq=False)
class PhaseSampler:
    """All steps of a phase. ``rows`` are each replica's rows (equal lengths), ``batch`` the images per replica and
    step.
    """

    rows: Sequence[Tensor]
    sampling: Sampling
    epochs: int
    batch: int
    key: Key
    classes: ClassDraws | None = None
    """Class-balanced draws in place of each image once; the length of an epoch, and repeated copies, stay."""

    def __post_init__(self) -> None:
        sizes = {len(rows) for rows in self.rows}
        assert len(sizes) == 1, f"replicas of unequal length: {sizes}"
        assert self.classes is None or self.sampling.order is not Order.SEQUENTIAL, "a stored order has no draws"

    @property
    def replicas(self) -> int:
        """Number of virtual replicas."""
        return len(self.rows)

    @property
    def _count(self) -> int:
        """Number of images of a replica, each copy counted."""
        return len(self.rows[0]) * self.sampling.copies

    @property
    def draws_per_replica(self) -> int:
        """Number of samples that an epoch offers to each replica."""
        n = self._count
        match self.sampling.order:
            case Order.REPEATED:
                return (n // 256 * 256) // self.replicas
            case Order.SHUFFLED:
                return n // self.replicas
            case Order.SEQUENTIAL:  # each replica goes through all of its own list, as published
                return n

    @property
    def steps_per_epoch(self) -> int:
        """Number of optimiser steps in an epoch; an incomplete last batch counts unless it is dropped (the only batch
        never is).
        """
        n = decides = self.draws_per_replica
        if self.sampling.order is Order.SEQUENTIAL:  # published: the length under repeated sampling decides
            decides = n // 256 * 256 // self.replicas
        return n // self.batch if self.sampling.drop_last and decides > self.batch else -(-n // self.batch)

    @property
    def total_steps(self) -> int:
        """Number of optimiser steps of the phase."""
        return self.steps_per_epoch * self.epochs

    @property
    def images(self) -> int:
        """Number of images of the whole phase; an incomplete batch counts with its own size."""
        return self.epochs * self.replicas * min(self.draws_per_replica, self.steps_per_epoch * self.batch)

    def step(self, step: int, replicas: range | None = None) -> StepIndices:
        """Return the samples of optimiser step ``step`` (from 0), of all replicas or of some."""
        epoch, within = divmod(step, self.steps_per_epoch)
        low = within * self.batch
        high = min(low + self.batch, self.draws_per_replica)
        order = self._order(epoch)
        wanted = range(self.replicas) if replicas is None else replicas
        rows = torch.cat([self.rows[r][self._places(r, epoch, order[r][low:high])] for r in wanted])
        offsets = torch.arange(high - low)
        positions = [(within * self.replicas + r) * self.batch + offsets for r in wanted]
        copies, each = None, self.sampling.copies
        if each > 1 or self.sampling.fixed:
            copies = rows * each + torch.cat([order[r][low:high] for r in wanted]) % each
        return StepIndices(rows, torch.cat(positions), epoch, copies)

    def of(self, replicas: range) -> ReplicaShard:
        """Return these replicas' part of every step."""
        return ReplicaShard(self, replicas)

    def _places(self, replica: int, epoch: int, order: Tensor) -> Tensor:
        """Return places in a replica's rows: the order's entries themselves, or the class-balanced draws that they
        number.
        """
        if self.classes is None:
            return order // self.sampling.copies
        key = Key(0) if self.sampling.ignore_seed else self.key
        return self.classes.draw(replica, key.fold("class-balanced", epoch), order)

    def _order(self, epoch: int) -> list[Tensor]:
        """Return, for each replica, indices into its rows (times ``copies``, plus the copy), or numbers of
        class-balanced draws.
        """
        n = self._count
        if self.sampling.order is Order.SEQUENTIAL:
            return [torch.arange(n)] * self.replicas
        if self.classes is None:
            indices = _permutation(None if self.sampling.ignore_seed else self.key, epoch, n)
        else:
            indices = torch.arange(n)
        if self.sampling.order is Order.REPEATED:
            indices = repeated_order(indices, self.replicas)
        return [indices[r :: self.replicas][: self.draws_per_replica] for r in range(self.replicas)]


@dataclass(frozen=True, eq=False)
class ReplicaShard:
    """The steps of some of the replicas: the share of one of several processes."""

    draws: PhaseSampler
    replicas: range

    @property
    def total_steps(self) -> int:
        """Number of optimiser steps of the phase, the same for every share."""
        return self.draws.total_steps

    def step(self, step: int) -> StepIndices:
        """Return these replicas' samples of optimiser step ``step``."""
        return self.draws.step(step, self.replicas)


def repeated_order(permutation: Tensor, replicas: int) -> Tensor:
    """Return three adjacent copies of each index, wrapped to a multiple of ``replicas`` (Hoffer et al. 2020, as in
    DeiT's sampler).
    """
    repeated = permutation.repeat_interleave(3)
    missing = -len(repeated) % replicas
    return torch.cat([repeated, repeated[:missing]])


@lru_cache(maxsize=4)
def _permutation(key: Key | None, epoch: int, count: int) -> Tensor:
    if key is None:  # as published: the epoch's number is the seed
        return torch.randperm(count, generator=torch.Generator().manual_seed(epoch))
    return rng.permutation(key.fold("order", epoch), count)
