"""The seam between an image encoder and what grows behind it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """Images (B, channels, height, width) to patch tokens (B, N, D)."""

    drop_path: float
    """Stochastic-depth rate that the decoder behind it should use."""
    mlp_ratio: float
    """Hidden width of its MLPs over D, which the decoder shares."""
    num_patches: int
    """N."""

    def __init__(self, *, dim: int, num_heads: int) -> None:
        super().__init__()
        self.dim = dim
        self.num_heads = num_heads

    @abstractmethod
    def forward(self, images: Tensor, scales: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Tokens (B, N, D) and the tokens after each block; ``scales`` (2 x blocks, B) multiplies residual branches."""

    @abstractmethod
    def drop_rates(self) -> list[float]:
        """Stochastic-depth rate of each residual branch, two a block."""

    @abstractmethod
    def structure(self) -> dict[str, Any]:
        """A plain mapping with the ``kind`` and the sizes of this encoder."""
