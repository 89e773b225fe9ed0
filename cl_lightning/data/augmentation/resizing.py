"""Resizing of batches of square uint8 images on their own device, to the bit as Pillow resizes them one by one.

Pillow convolves rows, then columns, with weights rounded to 22 bits, and rounds and clips to whole levels after each.
All of its numbers are whole and below 2^53, so products of matrices in float64 are exact: no order of summation, batch,
device or machine changes a level. (torch's ``interpolate`` neither rounds nor clips between the two: up to 9 levels
from Pillow on CIFAR-100 from 32 to 224 pixels. See docs/adr/0031.)

Legend: B batch, C channels, S side of an image, P side of the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

_BITS = 22
"""Bits behind the point of Pillow's weights for images of eight bits."""
LEVELS_TOGETHER = {"cpu": 1 << 21, "cuda": 1 << 25}
"""Largest number of levels of the result at a time: intermediate results are in float64."""
SUPPORT = {"bicubic": 2.0, "bilinear": 1.0}
"""Reach of each filter, in pixels of the coarser image."""


@dataclass(frozen=True)
class Resize:
    """Scaling of square images to ``short_side`` pixels, of which the central ``size`` are kept."""

    size: int
    short_side: int
    """Side of the scaled image, at least ``size``; equal to it: the whole image is kept."""
    interpolation: str
    """``bicubic`` or ``bilinear``; shrinking smooths first."""

    def __call__(self, images: UInt8[Tensor, "B C S S"]) -> UInt8[Tensor, "B C P P"]:
        """Return the resized images, on their device. Images of ``size`` pixels are returned as they are."""
        channels, side = images.shape[1], images.shape[-1]
        if side == self.size or len(images) == 0:
            return images.new_empty(0, channels, self.size, self.size) if len(images) == 0 else images
        weights_PS = _weights(side, self.short_side, self.size, self.interpolation).to(images.device, non_blocking=True)
        most = LEVELS_TOGETHER.get(images.device.type, LEVELS_TOGETHER["cpu"])
        together = max(1, most // (channels * self.size**2))
        return torch.cat([_resized(part, weights_PS) for part in images.split(together)])

    def levels(self, channels: int) -> int:
        """Return the number of grey levels of a resized image."""
        return channels * self.size**2


def _resized(images: Tensor, weights_PS: Tensor) -> Tensor:
    rows = _whole_levels(images.to(torch.float64) @ weights_PS.T)
    return _whole_levels(weights_PS @ rows).to(torch.uint8)


def _whole_levels(sums: Tensor) -> Tensor:
    """Return the sums of levels, each times a weight in units of 2^-22, rounded half up and clipped to 0 .. 255."""
    return sums.add_(1 << (_BITS - 1)).mul_(2.0**-_BITS).floor_().clamp_(0, 255)


@lru_cache(maxsize=16)
def _weights(side: int, short_side: int, size: int, interpolation: str) -> Float[Tensor, "P S"]:
    """Return the whole weights, in units of 2^-22, of the central ``size`` of ``short_side`` output pixels."""
    scale = side / short_side
    coarse = max(scale, 1.0)
    reach = SUPPORT[interpolation] * coarse
    centres = ((torch.arange(short_side, dtype=torch.float64) + 0.5) * scale)[:, None]
    pixels = torch.arange(side, dtype=torch.float64)
    first, end = (centres - reach + 0.5).trunc(), (centres + reach + 0.5).trunc()
    taken = (pixels >= first) & (pixels < end)
    weights = torch.where(taken, _FILTERS[interpolation]((pixels - centres + 0.5) * (1 / coarse)), 0.0)
    weights = weights / weights.sum(dim=1, keepdim=True)
    left = round((short_side - size) / 2)  # as ``decoding.centre`` cuts a file
    return (weights * 2**_BITS + torch.copysign(torch.tensor(0.5), weights)).trunc()[left : left + size]


def _bilinear(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp_(min=0)


def _bicubic(distance: Tensor) -> Tensor:
    """Return Keys' cubic (1981) with a = -1/2."""
    x = distance.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


_FILTERS = {"bicubic": _bicubic, "bilinear": _bilinear}
