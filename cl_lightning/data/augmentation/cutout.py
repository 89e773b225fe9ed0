"""Cutout: a square of each training image becomes black (DeVries & Taylor 2017, arXiv 1708.04552).

The centre is uniform over all pixels, and what sticks out of the image is cut off: a hole of 16 pixels hides between 64
and 256 of them. Black before normalisation, as DKT's public code has it, not the mean as in the paper's text.

Legend: B batch, C channels, H rows, W columns, L rows or columns.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from cl_lightning.core import rng


def draw(key: rng.Key, positions_B: Int64[Tensor, " B"], height: int, width: int) -> Int64[Tensor, "2 B"]:
    """Return row and column of each centre, on the device of ``positions_B``: one draw for each position."""
    sides = torch.tensor([[height], [width]], device=positions_B.device)
    return rng.integers(key, positions_B, sides, torch.arange(2, device=positions_B.device)[:, None])


def kept(centres_B: Int64[Tensor, " B"], size: int, length: int) -> Bool[Tensor, "B L"]:
    """Return which of ``length`` rows (or columns) are outside [centre - size // 2, centre - size // 2 + size)."""
    offset_BL = torch.arange(length, device=centres_B.device) - (centres_B[:, None] - size // 2)
    return (offset_BL < 0) | (offset_BL >= size)


def black_out(
    images: UInt8[Tensor, "B C H W"], centres_2B: Int64[Tensor, "2 B"], size: int
) -> UInt8[Tensor, "B C H W"]:
    """Return copies of ``images`` with squares of ``size`` pixels black; centres may be on the host."""
    rows_BH, columns_BW = (
        kept(centres_B, size, length).to(images.device, non_blocking=True)
        for centres_B, length in zip(centres_2B, images.shape[2:], strict=True)
    )
    mask_BHW = rows_BH[:, :, None] | columns_BW[:, None, :]
    return images * mask_BHW[:, None].view(torch.uint8)  # products of bytes are faster than torch.where on a CPU
