"""What every network of the house offers, whatever grows in it.

A network describes itself: :meth:`Network.structure` is a plain mapping from which the same shapes can be built again,
so that a checkpoint is restored from its own contents and loaded strictly. Noise enters as a tensor, never as hidden
state: a network says what it wants to be random in a step (:meth:`Network.noise`; for most of them the multipliers of
their residual branches) and is given it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Features, Plain


@dataclass(frozen=True)
class Branch:
    """A residual branch that stochastic depth may skip."""

    part: str
    """The part of the network (see :meth:`Network.parts`) that it belongs to."""
    rate: float
    """Probability of being skipped, in [0, 1)."""


class Network(nn.Module, ABC):
    """Images to features; heads turn features into scores."""

    @abstractmethod
    def forward(self, images: Tensor, scales: Tensor | None = None) -> Features:
        """Embed ``images`` (B, channels, height, width).

        ``scales`` (branches, B) multiplies the residual branches in the order of :meth:`branches`: 0 for a skipped
        branch, 1 / (1 - rate) for a kept one. ``None`` means no stochastic depth. (A network with other noise says in
        :meth:`noise` what it is.)
        """

    @abstractmethod
    def logits(self, features: Features) -> Tensor:
        """Read scores (B, C) of all classes seen from ``features``."""

    @abstractmethod
    def grow(self, num_new: int, key: Key) -> None:
        """Make room for ``num_new`` more classes, initialising what is new from ``key``."""

    @abstractmethod
    def parts(self) -> dict[str, list[nn.Parameter]]:
        """All parameters in disjoint named groups: the units in which phases train and freeze."""

    @abstractmethod
    def structure(self) -> dict[str, Plain]:
        """A plain mapping with the ``kind`` of network and all that is needed to build its shapes again."""

    def trunks(self) -> list[str]:
        """The names of the methods that take images first and whose shapes no growth changes: what may be compiled."""
        return []

    def branches(self) -> list[Branch]:
        """The residual branches that stochastic depth acts on; empty where there is none."""
        return []

    def noise(self, key: Key, positions: Tensor, steps: Tensor, frozen: frozenset[str]) -> Tensor | None:
        """What is random in a pass of training: (slots, B), a column for each image, or ``None``.

        Args:
            key: of the epoch and pass.
            positions: (B,) of the images within the epoch: what differs between images.
            steps: (B,) of each image's step within the epoch: what all images of a step share.
            frozen: parts that are not trained and shall have no stochastic depth.
        """
        return branch_scales(self.branches(), key, positions, frozen)

    def task_vectors(self) -> Tensor | None:
        """(T, F) what each task brought to a network in which something grows in front of the heads, oldest first; for
        pictures.
        """
        return None

    def attention(self, images: Tensor) -> Tensor | None:
        """(B, T, h, w) the share of each patch in what is read for each task, mean over heads; for pictures."""
        return None

    def auxiliary(self, features: Features) -> Tensor | None:
        """Scores (B, C_new + 1) of the auxiliary head, where there is one."""
        return None


def branch_scales(branches: list[Branch], key: Key, positions: Tensor, frozen: frozenset[str]) -> Tensor | None:
    """Draw the multipliers (branches, B) of stochastic depth for images at ``positions`` (B,).

    Branches of ``frozen`` parts are always kept. Returns ``None`` where no branch has a rate above zero.
    """
    rates = [0.0 if branch.part in frozen else branch.rate for branch in branches]
    if not any(rates):
        return None
    rate = torch.tensor(rates)[:, None].to(positions.device, non_blocking=True)
    slots = torch.arange(len(rates), device=positions.device)[:, None]
    kept = rng.uniform(key, positions[None, :], slots) >= rate
    return kept / (1.0 - rate)
