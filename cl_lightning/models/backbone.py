"""The seam for networks that turn an image into one vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class Backbone(nn.Module, ABC):
    """Images (B, channels, height, width) to vectors (B, D)."""

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.dim = dim

    @abstractmethod
    def forward(self, images: Tensor, scales: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Vectors (B, D) and intermediate maps; ``scales`` (branches, B) as in ``Network.forward``."""

    @abstractmethod
    def structure(self) -> dict[str, Any]:
        """A plain mapping with the ``kind`` and the sizes of this backbone."""

    def drop_rates(self) -> list[float]:
        """Stochastic-depth rate of each residual branch; empty where there is none."""
        return []
