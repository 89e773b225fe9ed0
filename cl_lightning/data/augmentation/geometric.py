"""Affine resampling of batches of uint8 images, as Pillow's ``transform`` with its bicubic filter does it.

Output pixel (x, y) is the input at A (x + 1/2, y + 1/2) (pixel centres). Where that point is outside the image
the result is the fill colour; elsewhere it is Keys' cubic convolution (1981) with a = -1 (not the -1/2 of Pillow's
``resize``) over 4 x 4 taps, clamped at the rim, clipped and cut, not rounded, to whole levels.

A shear or a translation moves whole rows (or columns), each by one amount: there the cubic is one-dimensional, with
one fraction a row, and Pillow's other twelve taps weigh nothing. Only a rotation needs all of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cl_lightning.data.augmentation.photometric import whole_levels


def _cubic(taps: Sequence[Tensor], fraction: Tensor) -> Tensor:
    """Interpolate ``fraction`` of the way from the second to the third of four taps, as a polynomial in differences.

    Differences, not weights: they vanish where the image is constant, so that cutting never loses a level to rounding.
    """
    before, left, right, after = taps
    first = left - before
    curve = (after - right).add_(first)
    slope = (fraction - 1).mul(curve).sub_(first).mul_(fraction).add_(right).sub_(before)
    return slope.mul_(fraction).add_(left)


def _composite(values: Tensor, inside: Tensor, fill: Tensor) -> Tensor:
    """Return whole levels of ``values`` (N, C, H, W) where ``inside`` (N, 1, H, W), the colour ``fill`` (C, 1, 1)
    elsewhere.
    """
    mask = inside.view(torch.uint8)  # products of bytes are several times as fast as torch.where on a CPU
    return whole_levels(values).mul_(mask).add_((1 - mask) * fill)


def _centres(size: int, like: Tensor) -> Tensor:
    return torch.arange(0.5, size, dtype=torch.float64, device=like.device)


def slide_rows(images: Tensor, shifts: Tensor, fill: Tensor) -> Tensor:
    """Shift row y of image n left by ``shifts[n, y]`` pixels.

    ``images`` is (N, C, H, W), ``shifts`` (N, H) float64 in pixels, any size, ``fill`` (C, 1, 1) uint8.
    """
    channels, height, width = images.shape[1:]
    shifts = shifts.reshape(-1, 1, height, 1)
    whole = shifts.floor()
    taps = torch.arange(-1, width + 2, device=images.device)
    columns = (whole.long() + taps).clamp_(0, width - 1)
    moved = images.gather(3, columns.expand(-1, channels, -1, -1)).float()
    values = _cubic([moved.narrow(3, tap, width) for tap in range(4)], (shifts - whole).float())
    positions = _centres(width, images) + shifts
    return _composite(values, (positions >= 0) & (positions < width), fill)


def shear_shifts(factors: Tensor, lines: int, _: int) -> Tensor:
    """Return shifts (N, lines) of a shear that keeps the image's first edge: ``factors`` (N,) pixels a line."""
    return factors.unsqueeze(1) * _centres(lines, factors)


def translation_shifts(shares: Tensor, lines: int, length: int) -> Tensor:
    """Return shifts (N, lines) of a translation by ``shares`` (N,) of a line's ``length``."""
    return (shares * length).unsqueeze(1).expand(-1, lines)


def rotate(images: Tensor, degrees: Tensor, fill: Tensor) -> Tensor:
    """Turn each image about its centre, anticlockwise, by ``degrees`` (N,) float64; ``fill`` is (C, 1, 1) uint8."""
    channels, height, width = images.shape[1:]
    angles = degrees.deg2rad().view(-1, 1, 1)
    cos, sin = angles.cos(), angles.sin()
    across = _centres(width, images).sub_(width / 2)
    down = _centres(height, images).sub_(height / 2).view(-1, 1)
    columns, right, in_width = _taps((cos * across - sin * down).add_(width / 2), width)
    rows, below, in_height = _taps((sin * across + cos * down).add_(height / 2), height)
    indices = (rows.mul_(width).unsqueeze(2) + columns.unsqueeze(1)).view(-1, 1, 16 * height * width)
    pixels = images.flatten(2).gather(2, indices.expand(-1, channels, -1)).float()
    lines = _cubic(pixels.view(-1, channels, 4, 4, height, width).unbind(3), right.unsqueeze(1))
    values = _cubic(lines.unbind(2), below)
    return _composite(values, in_width & in_height, fill)


def _taps(coordinate: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the taps of coordinates (N, H, W) along an axis of ``size`` pixels, as (N, 4 or 1, H, W).

    They are the indices of the four nearest pixels, the distance past the centre of the second, and a mask of the
    inside.
    """
    coordinate = coordinate.unsqueeze(1)
    inside = (coordinate >= 0) & (coordinate < size)
    coordinate = coordinate - 0.5
    start = coordinate.floor()
    offsets = torch.arange(-1, 3, device=coordinate.device).view(4, 1, 1)
    return (start.long() + offsets).clamp_(0, size - 1), coordinate.sub_(start).float(), inside
