"""Control of the share of tokens that a mask drops.

Legend: L masked layers, B images, N tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def drop_control(masks_LBN: Sequence[Float[Tensor, "B N"]], keep: float) -> Float[Tensor, ""]:
    """Return (1 / L) sum_l (keep - mean m_l)^2, the mean over images and tokens (L_dc of Xue et al., MEAT, CVPR 2022).

    Two-sided: masks that keep everything are pulled down to ``keep`` as those that drop too much are pulled up. It
    couples the images of a batch. (The public code has the sum over layers in place of the mean, and weight 1 in place
    of 2.)
    """
    rates_L = torch.stack([mask.float().mean() for mask in masks_LBN])
    return (keep - rates_L).square().mean()
