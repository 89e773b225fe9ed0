"""Masks of channels, annealed while they are learnt: DER's pruning (Yan, Xie & He, CVPR 2021), from its formulae.

A channel has a logit e and the mask sigmoid(s e) (after HAT, Serra et al. 2018). Within an epoch of B batches s rises
from 1 / s_max, where each mask is about one half, to s_max, where it is nearly 0 or 1:

    s = 1 / s_max + (s_max - 1 / s_max) b / (B - 1),  b = 0 ... B - 1.

The gradient of e is divided by s sigmoid'(s e) and multiplied by sigmoid'(e), so that it depends on s no more. What is
left of the product is sigmoid'(e) times the mask's own gradient. It is computed so: the quotient as it is written is
0 times infinity once s e is about 17 in float32.

No public code has these masks.

Legend: M channels.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

LARGEST_LOGIT = 6.0
"""Largest size of a logit, as HAT's: sigmoid'(e) does not vanish, so that a channel can come back."""


class _AnnealedMask(torch.autograd.Function):
    """sigmoid(s e), with the gradient of sigmoid(e)."""

    @staticmethod
    def forward(ctx: Any, logits_M: Tensor, sharpness: Tensor) -> Tensor:
        ctx.save_for_backward(logits_M)
        return torch.sigmoid(sharpness * logits_M)

    @staticmethod
    def backward(ctx: Any, gradient_M: Tensor) -> tuple[Tensor, None]:
        (logits_M,) = ctx.saved_tensors
        return gradient_M * logits_M.sigmoid() * (-logits_M).sigmoid(), None


def annealed_mask(logits_M: Float[Tensor, " M"], sharpness: Float[Tensor, ""]) -> Float[Tensor, " M"]:
    """Return masks in [0, 1]; ``sharpness`` is s, > 0. The gradient of a logit is sigmoid'(e) times the mask's."""
    return _AnnealedMask.apply(logits_M, sharpness)


def sharpness_of(batch: int, batches: int, s_max: float) -> float:
    """Return s of a batch of an epoch, from 0; a single batch is the last one."""
    share = batch / (batches - 1) if batches > 1 else 1.0
    return 1 / s_max + (s_max - 1 / s_max) * share


def open_channels(logits_M: Float[Tensor, " M"]) -> list[int]:
    """Return the channels to keep, ascending: those with e >= 0 (our threshold, where the mask is one half); the one
    with the largest e where there are none.
    """
    kept = torch.nonzero(logits_M >= 0).flatten().tolist()
    return kept or [int(logits_M.argmax())]
