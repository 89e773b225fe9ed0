"""End-to-End's twelve variants of an image (Castro et al. 2018, the authors' code for CIFAR-100).

The image; with its brightness shifted; with its contrast scaled; a random crop of each of the three; and the mirror
images of all six. Shift, factor and crops are drawn once for the twelve. Where a mirrored image means something else
there are the six that are not mirrored, drawn twice.

The authors' levels are real numbers; here they are rounded, since images stay whole levels until they are normalised.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from cl_lightning.core import rng
from cl_lightning.core.rng import Key

SHIFT = 63.0
"""Largest shift of the brightness, in levels."""
CONTRAST = (0.2, 1.8)
"""Range of the factor of the contrast."""
_CHANGES = 3
"""Changes before a crop: none, brightness, contrast."""
_UNMIRRORED = 2 * _CHANGES


class Variants(NamedTuple):
    """A variant of each of B images, on the host."""

    kinds: Tensor
    """(B,) int64 in 0..11: change (none, brightness, contrast) + 3 if cropped + 6 if mirrored."""
    shifts: Tensor
    """(B,) float32, in levels."""
    factors: Tensor
    """(B,) float32, of the contrast."""
    tops: Tensor
    """(B,) int64, first row of the crop in the padded image."""
    lefts: Tensor
    """(B,) int64, its first column."""


def draw(key: Key, positions: Tensor, copies: int, *, padding: int, flip: bool) -> Variants:
    """Return the variants at ``positions`` (B,).

    If an epoch goes over each image a multiple of twelve times (``copies``), positions are ``row * copies + copy``:
    each variant comes as often, and those of an image share their draws. Else each is any of them.
    """
    number = 2 * _UNMIRRORED if flip else _UNMIRRORED
    if copies % (2 * _UNMIRRORED) == 0:
        kinds, shared = positions % number, positions // number
    else:
        kinds, shared = rng.integers(key.fold("kind"), positions, number), positions
    low, high = CONTRAST
    shifts = SHIFT * (2 * rng.uniform(key, shared, 0) - 1)
    factors = low + (high - low) * rng.uniform(key, shared, 1)
    # The authors draw from 1..8 of the 9 places that there are with four pixels of padding.
    places, change = max(1, 2 * padding), kinds % _CHANGES
    tops = rng.integers(key, shared, places, slots=2 + 2 * change)
    lefts = rng.integers(key, shared, places, slots=3 + 2 * change)
    return Variants(kinds, shifts, factors, tops, lefts)


def apply(images: Tensor, variants: Variants, padding: int) -> Tensor:
    """Return the variants of uint8 images (B, C, H, W), on their device, rounded to levels."""
    return levels(images.float(), variants, padding).round_().to(torch.uint8)


def levels(images: Tensor, variants: Variants, padding: int) -> Tensor:
    """Return the variants of images (B, C, H, W) of real levels in 0..255, unrounded."""
    kinds, shifts, factors, tops, lefts = (
        values.to(images.device, non_blocking=True).view(-1, 1, 1, 1) for values in variants
    )
    change = kinds % _CHANGES
    mean = images.mean((2, 3), keepdim=True, dtype=torch.float64).to(images)  # exact: devices agree
    brighter, contrasted = (images + shifts).clamp(0, 255), ((images - mean) * factors + mean).clamp(0, 255)
    changed = torch.where(change == 1, brighter, torch.where(change == 2, contrasted, images))
    cropped = (kinds // _CHANGES) % 2 == 1
    return _windows(changed, cropped, kinds >= _UNMIRRORED, tops, lefts, padding)


def _windows(images: Tensor, cropped: Tensor, mirrored: Tensor, tops: Tensor, lefts: Tensor, padding: int) -> Tensor:
    """Crop and mirror by one gather; all but ``images`` and ``padding`` are (B, 1, 1, 1)."""
    channels, height, width = images.shape[1:]
    padded = functional.pad(images, (padding,) * 4)
    rows = torch.arange(height, device=images.device)[:, None] + torch.where(cropped, tops, padding)
    columns = torch.arange(width, device=images.device)
    columns = torch.where(mirrored, width - 1 - columns, columns) + torch.where(cropped, lefts, padding)
    indices = (rows * padded.shape[3] + columns).flatten(2)
    return padded.flatten(2).gather(2, indices.expand(-1, channels, -1)).view_as(images)
