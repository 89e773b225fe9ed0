"""The interface of networks that turn an image into one vector."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from jaxtyping import Float, Int64
from torch import Tensor, nn

from cl_lightning.core.rng import Key
from cl_lightning.models.tensor_types import Images, Maps, Noise, Scales
from cl_lightning.models.weights_file import Weights

Fill = Callable[["Backbone"], None]
"""Function that puts weights from elsewhere into a backbone."""


class Backbone(nn.Module, ABC):
    """A network from images to vectors of width D."""

    def __init__(self, *, dim: int, frozen: bool = False) -> None:
        """``dim`` is the width D; ``frozen`` is true for a network that is never trained."""
        super().__init__()
        self.dim = dim
        self.frozen = frozen

    @abstractmethod
    def forward(self, images: Images, scales: Scales | None = None) -> tuple[Float[Tensor, "B D"], Maps]:
        """Return vectors and intermediate maps; ``scales`` as in ``Network.forward``."""

    @abstractmethod
    def structure(self) -> dict[str, Any]:
        """Return a plain mapping with the ``kind`` and the sizes of this backbone."""

    def train(self, mode: bool = True) -> Backbone:
        """Set the mode; a frozen network stays in evaluation mode, its statistics are part of what is frozen."""
        super().train(mode and not self.frozen)
        return self

    def start(self) -> Backbone:
        """Return the part that weights from elsewhere are for: all of it, unless something was added."""
        return self

    def successor(self) -> Backbone:
        """Return the network that a further task's begins as, where each task has its own: a copy of this one."""
        return copy.deepcopy(self)

    def noise(self, key: Key, positions_B: Int64[Tensor, " B"]) -> Noise | None:
        """Draw what a training pass takes as ``scales``, a column for each image; None: that of stochastic depth."""
        return None

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return all parameters in the groups in which phases train and freeze them."""
        return {"backbone": list(self.parameters())}

    def renamed(self, weights: Weights) -> dict[str, Tensor]:
        """Return weights of such a network from elsewhere under our names, without their classifier; those of others
        are left as they are.
        """
        return dict(weights)

    def drop_rates(self) -> list[float]:
        """Return the stochastic-depth rate of each residual branch; empty where there is none."""
        return []
