"""Scaled dot-product attention, by torch's fused kernel wherever that is fast.

On a CPU the fused kernel's way back takes ten times as long in bf16 as in float32: each small product is computed
without the units that the processor has for bf16. Two products of matrices with a softmax between them use these.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def attend(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, scale: float | None = None) -> Tensor:
    """softmax(q k * scale) v over the second last dimension of k and v, heads before it; as
    ``F.scaled_dot_product_attention`` has it.

    ``mask``: which keys are seen (true), of any shape that can be broadcast to (..., queries, keys); ``scale``:
    1 / sqrt(width of q) if not given.
    """
    if learns_by_matrices(q):
        return attention_weights(q, k, mask=mask, scale=scale) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)


def learns_by_matrices(q: Tensor) -> bool:
    """Whether attention of such queries is to be learnt without the fused kernel: in half precision on a CPU."""
    return q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.requires_grad and torch.is_grad_enabled()


def attention_weights(q: Tensor, k: Tensor, *, mask: Tensor | None = None, scale: float | None = None) -> Tensor:
    """softmax(q k * scale), (..., queries, keys); the sums of the softmax are float32's."""
    scores = (q * (q.shape[-1] ** -0.5 if scale is None else scale)) @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1)
