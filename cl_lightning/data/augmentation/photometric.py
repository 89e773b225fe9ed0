"""Photometric operations on batches of uint8 images, each equal to its Pillow counterpart to the grey level.

Six of the ten map a grey level to a grey level, given the image: they are tables of 256 entries per image and channel,
so that one gather applies all of them. The other four blend the image with a plainer version of itself. All take
images (N, C, H, W), C = 3 or 1, and those with an argument one number (N,) per image. Only integer and single
correctly rounded float operations are used: no result depends on the rest of the batch or on the device.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

LUMA_WEIGHTS = (19595, 38470, 7471)
"""ITU-R 601 weights of red, green and blue in units of 2^-16, rounded as in Pillow's conversion to grey."""


def luma(images: Tensor) -> Tensor:
    """Return the grey version (N, 1, H, W), int32 in 0..255, rounded; a grey image is its own."""
    wide = images.int()
    if images.shape[1] == 1:
        return wide
    red, green, blue = wide.split(1, dim=1)
    weighted = (red * LUMA_WEIGHTS[0]).add_(green * LUMA_WEIGHTS[1]).add_(blue * LUMA_WEIGHTS[2])
    return weighted.add_(0x8000) >> 16


def whole_levels(values: Tensor) -> Tensor:
    """Clip float values, in place, to 0..255 and truncate them, as Pillow does: uint8."""
    return values.clamp_(0, 255).to(torch.int16).to(torch.uint8)  # by way of int16: three times as fast on a CPU


def look_up(images: Tensor, tables: Tensor) -> Tensor:
    """Replace every grey level by its entry in the table of its image and channel; ``tables`` is (N, C, 256)."""
    return tables.gather(2, images.flatten(2).long()).view_as(images)


def auto_contrast(images: Tensor, _: Tensor) -> Tensor:
    """Return tables that stretch each channel's range to 0..255; a channel of one level is unchanged."""
    flat = images.flatten(2)
    low = flat.amin(2, keepdim=True).double()
    span = flat.amax(2, keepdim=True) - low
    constant = span == 0
    # A tensor over a tensor: a Python number over a tensor goes through the reciprocal and rounds twice.
    scale = torch.full_like(span, 255.0) / span.add_(constant)
    levels = torch.arange(256, dtype=torch.float64, device=images.device)
    return whole_levels(torch.where(constant, levels, levels * scale - low * scale))


def equalise(images: Tensor, _: Tensor) -> Tensor:
    """Return tables that flatten each channel's histogram, in Pillow's whole-number arithmetic.

    The step is a 255th of the pixels below the channel's highest level; where that is less than one pixel the
    channel stays as it is.
    """
    flat = images.flatten(2).long()
    histogram = torch.zeros(*images.shape[:2], 256, dtype=torch.int64, device=images.device)
    histogram.scatter_add_(2, flat, torch.ones_like(flat))
    step = (flat.shape[2] - histogram.gather(2, flat.amax(2, keepdim=True))) // 255
    below = (histogram.cumsum(2) - histogram).add_(step // 2)
    flattened = (below // step.clamp(min=1)).clamp_(max=255)
    return torch.where(step > 0, flattened, torch.arange(256, device=images.device)).to(torch.uint8)


@lru_cache
def fixed_tables(name: str, device: torch.device) -> Tensor:
    """Return the tables (arguments, 256) of an operation that is independent of the image; at most 66 kB each."""
    levels = torch.arange(256)
    argument = torch.arange(257)[:, None]
    tables = {
        "invert": 255 - levels[None],
        "posterise": (levels >> (8 - argument[:9])) << (8 - argument[:9]),
        "solarise": torch.where(levels < argument, levels, 255 - levels),
        "solarise_add": torch.where(levels < 128, levels + argument[:128], levels),
    }
    return tables[name].to(torch.uint8).to(device)


def _fixed(name: str, images: Tensor, arguments: Tensor) -> Tensor:
    tables = fixed_tables(name, images.device).index_select(0, arguments.int())
    return tables.unsqueeze(1).expand(-1, images.shape[1], -1)


def invert(images: Tensor, zeros: Tensor) -> Tensor:
    """Return tables of the negative; the argument is always 0."""
    return _fixed("invert", images, zeros)


def posterise(images: Tensor, bits: Tensor) -> Tensor:
    """Return tables that keep the ``bits`` highest bits of a level, 0 to 8; 0 gives a black image.

    RandAugment's highest magnitude asks for 0 bits: Pillow once returned black for it, and now refuses.
    """
    return _fixed("posterise", images, bits)


def solarise(images: Tensor, thresholds: Tensor) -> Tensor:
    """Return tables that invert the levels from a threshold (0 to 256) on."""
    return _fixed("solarise", images, thresholds)


def solarise_add(images: Tensor, amounts: Tensor) -> Tensor:
    """Return tables that add an amount (0 to 127, whole) to the levels below 128."""
    return _fixed("solarise_add", images, amounts)


def blend(bases: Tensor, images: Tensor, factors: Tensor) -> Tensor:
    """Return ``base + factor * (image - base)``: 0 gives the base, 1 the image, 2 the opposite of the base.

    In single precision, in this order, and cut rather than rounded, because Pillow's ``Image.blend`` does so.
    ``bases`` holds whole levels and broadcasts against the images.
    """
    difference = images.float().sub_(bases)
    return whole_levels(difference.mul_(factors.float().view(-1, 1, 1, 1)).add_(bases))


def black(images: Tensor) -> Tensor:
    """Return the base of the brightness, (N, 1, 1, 1) float32."""
    return torch.zeros(len(images), 1, 1, 1, device=images.device)


def mean_luma(images: Tensor) -> Tensor:
    """Return the base of the contrast, (N, 1, 1, 1) int64: the mean of the image's grey version, rounded to a level."""
    grey = luma(images)
    pixels = grey.shape[2] * grey.shape[3]
    return (2 * grey.sum((1, 2, 3), keepdim=True) + pixels) // (2 * pixels)


def smooth(images: Tensor) -> Tensor:
    """Return the base of the sharpness, (N, C, H, W) float32: means of 3 x 3 pixels, the centre five times; the rim
    is unchanged.
    """
    result = images.float()
    if min(images.shape[2:]) < 3:
        return result
    rows = result[:, :, :-2] + result[:, :, 1:-1] + result[:, :, 2:]
    centre = result[:, :, 1:-1, 1:-1]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + centre * 4
    # Thirteenths are never halfway between two levels, so that float32 rounds as exact arithmetic would.
    centre.copy_(total.add_(6.5).mul_(1 / 13).floor_())
    return result
