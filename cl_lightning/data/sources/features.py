"""Features of images in the place of the images: what a frozen part of a network made of them, once."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True, eq=False)
class FeatureSource:
    """Vectors of the images of another source, row by row. It has what a loader needs, and no keys."""

    name: str
    """Name of the images' own source."""
    pixels: Float[Tensor, "n D"]
    """Vectors in the place of pixels. Rows that nobody has asked for are not set."""
    labels: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.pixels)
