"""Scaled dot-product attention, by torch's fused kernel wherever that is fast.

On a CPU the fused kernel's way back takes ten times as long in bf16 as in float32: each small product is computed
without the units that the processor has for bf16. Two products of matrices with a softmax between them use these.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

Queries = Float[Tensor, "*heads queries width"]
Keys = Float[Tensor, "*heads keys width"]
Mask = Bool[Tensor, " ..."]
"""True for the keys that are seen; broadcast to (..., queries, keys)."""


def attend(
    q: Queries,
    k: Keys,
    v: Float[Tensor, "*heads keys value_width"],
    *,
    mask: Mask | None = None,
    scale: float | None = None,
) -> Float[Tensor, "*heads queries value_width"]:
    """Return softmax(q k^T * scale) v, as ``F.scaled_dot_product_attention`` does; ``scale`` is 1 / sqrt(width) by
    default.
    """
    if learns_by_matrices(q):
        return attention_weights(q, k, mask=mask, scale=scale) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def learns_by_matrices(q: Float[Tensor, " ..."]) -> bool:
    """Return true if attention of such queries is to be learnt without the fused kernel: in bf16 on a CPU."""
    return q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad and torch.is_grad_enabled()


def attention_weights(
    q: Queries, k: Keys, *, mask: Mask | None = None, scale: float | None = None
) -> Float[Tensor, "*heads queries keys"]:
    """Return softmax(q k^T * scale); the sums of the softmax are float32's."""
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1)
