"""Sparsity of masked channels, weighted by what they cost."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Link = tuple[int, Float[Tensor, " _before"], Float[Tensor, " _behind"]]
"""A convolution: its kernel's weight K, and the masks of the channels before and behind it, in [0, 1]."""


def sparsity_loss(links: Sequence[Link]) -> Float[Tensor, ""]:
    """Return sum_l K_l |m_(l-1)|_1 |m_l|_1 / sum_l K_l c_(l-1) c_l in [0, 1] (DER, Yan et al., CVPR 2021).

    With K_l the area of the kernel the denominator is the number of weights (ours); with K_l its side the formula is as
    we remember it printed. Channels that nothing masks have masks of ones: the image's, and the last features.
    """
    kept = torch.stack([kernel * before.sum() * behind.sum() for kernel, before, behind in links]).sum()
    return kept / sum(kernel * before.numel() * behind.numel() for kernel, before, behind in links)
