"""The interface of all networks, whatever grows in them.

A network describes itself: :meth:`Network.structure` is a plain mapping from which the same shapes can be built again,
so that a checkpoint is restored from its own contents and loaded strictly. Noise enters as a tensor, never as hidden
state: a network draws the noise of a step in :meth:`Network.noise` (for most of them the multipliers of their residual
branches) and gets it as an argument.

Legend: B batch, T tasks, C classes, F feature size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Features, Plain
from cl_lightning.models.backbone import Fill
from cl_lightning.models.tensor_types import Images, Noise, Scales


@dataclass(frozen=True)
class Branch:
    """A residual branch that stochastic depth may skip."""

    part: str
    """The part of the network (see :meth:`Network.parts`) that it belongs to."""
    rate: float
    """Probability of being skipped, in [0, 1)."""


class Network(nn.Module, ABC):
    """A network from images to features; heads turn features into scores."""

    @abstractmethod
    def forward(self, images: Images, scales: Scales | None = None) -> Features:
        """Embed ``images``.

        ``scales`` multiplies the residual branches in the order of :meth:`branches`: 0 for a skipped branch,
        1 / (1 - rate) for another one. ``None`` means no stochastic depth. (A network with other noise describes it in
        :meth:`noise`.)
        """

    @abstractmethod
    def logits(self, features: Features) -> Float[Tensor, "B C"]:
        """Read scores of all classes seen from ``features``."""

    @abstractmethod
    def grow(self, num_new: int, key: Key) -> None:
        """Add ``num_new`` classes, initialising new parameters from ``key``."""

    @abstractmethod
    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return all parameters in disjoint named groups: the units in which phases train and freeze."""

    @abstractmethod
    def structure(self) -> dict[str, Plain]:
        """Return a plain mapping with the ``kind`` of network and all that is needed to build its shapes again."""

    def fill(self, fill: Fill) -> None:
        """Let ``fill`` put weights from elsewhere into the backbone that the first task starts from."""
        raise NotImplementedError(f"{type(self).__name__} has no backbone to fill")

    def leave_out_training(self) -> None:
        """Drop what only training has, and no score or teacher needs."""

    def training_only(self) -> list[nn.Parameter]:
        """Return the parameters that :meth:`leave_out_training` drops; counts of a network are without them."""
        return []

    def trunks(self) -> list[str]:
        """Return the names of the methods that may be compiled: they take images first, and no growth changes their
        shapes.
        """
        return []

    def frozen_trunk(self) -> nn.Module | None:
        """Return the part through which all else reads an image, if no phase to come trains it; None where there is no
        such part, or where it still learns.

        It has ``dim``, the width of its vectors, and ``structure()``. Called with images in evaluation mode it returns
        their vectors (``tensor_types.Vectors``), or these first of several values; the network then takes vectors in
        the place of images, so that each image passes once.
        """
        return None

    def settled(self) -> list[str]:
        """Return the names of the modules that nothing changes any more, neither weights nor statistics, in this task
        or a later one: a checkpoint refers to each, and it is written once.
        """
        trunk = self.frozen_trunk()
        return [] if trunk is None else [name for name, module in self.named_modules() if module is trunk]

    def unsettled_state(self) -> dict[str, Tensor]:
        """Return the state dict without the settled modules: what may differ between two moments of a task."""
        beginnings = tuple(f"{name}." for name in self.settled())
        return {name: value for name, value in self.state_dict().items() if not name.startswith(beginnings)}

    def branches(self) -> list[Branch]:
        """Return the residual branches that stochastic depth acts on; empty where there is none."""
        return []

    def noise(
        self, key: Key, positions: Int64[Tensor, " B"], steps: Int64[Tensor, " B"], frozen: frozenset[str]
    ) -> Noise | None:
        """Draw all randomness of a training pass, a column for each image, or return ``None``.

        Args:
            key: of the epoch and pass.
            positions: the images' positions within the epoch: noise that differs between images depends on them.
            steps: each image's step within the epoch: noise that all images of a step share depends on it.
            frozen: parts that are not trained and shall have no stochastic depth.
        """
        return branch_scales(self.branches(), key, positions, frozen)

    def task_vectors(self) -> Float[Tensor, "T F"] | None:
        """Return what each task brought in front of the heads as a vector, oldest first; for figures."""
        return None

    def attention(self, images: Images) -> Float[Tensor, "B T h w"] | None:
        """Return the share of each patch in what is read for each task, mean over heads; for figures."""
        return None

    def auxiliary(self, features: Features) -> Float[Tensor, "B groups"] | None:
        """Return the auxiliary scores, of any old class and of each new one; ``None`` without such a head."""
        return None


def branch_scales(
    branches: list[Branch], key: Key, positions: Int64[Tensor, " B"], frozen: frozenset[str]
) -> Scales | None:
    """Draw the multipliers of stochastic depth for images at ``positions``.

    Branches of ``frozen`` parts are never skipped. Returns ``None`` where no branch has a rate above zero.
    """
    rates = [0.0 if branch.part in frozen else branch.rate for branch in branches]
    if not any(rates):
        return None
    rate = torch.tensor(rates)[:, None].to(positions.device, non_blocking=True)
    slots = torch.arange(len(rates), device=positions.device)[:, None]
    kept = rng.uniform(key, positions[None, :], slots) >= rate
    return kept / (1.0 - rate)
