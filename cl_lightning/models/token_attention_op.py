"""Attention of tokens over themselves (each its own) and the patches of an image, as a function: by operators, or on a
GPU in one kernel.

Custom operators are annotated with plain tensors: torch reads their schemas from the annotations.

Legend: B batch, N patches, T tokens, D width, H heads, E = D / H.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cl_lightning.models import kernels
from cl_lightning.models.layers import split_heads

_MOST_TOKENS, _MOST_PATCHES = 64, 64
"""Upper bounds on tokens and patches: the weights of a head have to fit into registers."""

Tokens = Float[Tensor, "T D"]
Patches = Float[Tensor, "B N D"]


def token_attention(
    q_TD: Tokens, own_k_TD: Tokens, own_v_TD: Tokens, k_BND: Patches, v_BND: Patches, heads: int
) -> Float[Tensor, "B T D"]:
    """Return softmax(q k^T / sqrt(E)) v for each token and image, over the token's own key and the patches'."""
    if (
        kernels.supports(k_BND, k_BND.shape[2] // heads)
        and len(q_TD) <= _MOST_TOKENS
        and k_BND.shape[1] <= _MOST_PATCHES
    ):
        return fused(q_TD, own_k_TD, own_v_TD, k_BND, v_BND, heads)
    return eager(q_TD, own_k_TD, own_v_TD, k_BND, v_BND, heads)


def eager(
    q_TD: Tokens, own_k_TD: Tokens, own_v_TD: Tokens, k_BND: Patches, v_BND: Patches, heads: int
) -> Float[Tensor, "B T D"]:
    """Compute :func:`token_attention` on any device."""
    own_v_HTE, v_BHNE = split_heads(own_v_TD[None], heads)[0], split_heads(v_BND, heads)
    weights = patch_weights(q_TD, own_k_TD, k_BND, heads).to(v_BHNE.dtype)
    read_BHTE = weights[..., :1] * own_v_HTE + weights[..., 1:] @ v_BHNE
    return read_BHTE.transpose(1, 2).flatten(2)


def patch_weights(q_TD: Tokens, own_k_TD: Tokens, k_BND: Patches, heads: int) -> Float[Tensor, "B H T 1+N"]:
    """Return the softmax over a token itself, first, and the patches."""
    scale = (q_TD.shape[-1] // heads) ** -0.5
    q_HTE, own_k_HTE = (split_heads(t[None], heads)[0] for t in (q_TD * scale, own_k_TD))
    to_patches_BHTN = q_HTE @ split_heads(k_BND, heads).transpose(-1, -2)
    to_itself_HT1 = (q_HTE * own_k_HTE).sum(-1, keepdim=True)
    to_itself_BHT1 = to_itself_HT1.expand(k_BND.shape[0], -1, -1, -1)  # len() would fix the batch in an export
    return torch.cat([to_itself_BHT1, to_patches_BHTN], dim=-1).softmax(dim=-1)


@torch.library.custom_op("cl_lightning::token_attention", mutates_args=())
def fused(q_TD: Tensor, own_k_TD: Tensor, own_v_TD: Tensor, k_BND: Tensor, v_BND: Tensor, heads: int) -> Tensor:
    """Compute :func:`token_attention` by the kernel."""
    from cl_lightning.models.kernels import token_attention as kernel

    return kernel.forward(tuple(t.contiguous() for t in (q_TD, own_k_TD, own_v_TD, k_BND, v_BND)), heads)


@torch.library.custom_op("cl_lightning::token_attention_backward", mutates_args=())
def _backward(
    q_TD: Tensor, own_k_TD: Tensor, own_v_TD: Tensor, k_BND: Tensor, v_BND: Tensor, d_out_BTD: Tensor, heads: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    from cl_lightning.models.kernels import token_attention as kernel

    inputs = tuple(t.contiguous() for t in (q_TD, own_k_TD, own_v_TD, k_BND, v_BND, d_out_BTD))
    *shared, d_k, d_v = kernel.backward(inputs, heads)
    d_q, d_own_k, d_own_v = (parts.sum(0).to(q_TD.dtype) for parts in shared)
    return d_q, d_own_k, d_own_v, d_k, d_v


@fused.register_fake
def _(q_TD: Tensor, own_k_TD: Tensor, own_v_TD: Tensor, k_BND: Tensor, v_BND: Tensor, heads: int) -> Tensor:
    return k_BND.new_empty(len(k_BND), *q_TD.shape)


def _differentiate(ctx, d_out_BTD: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
    return (*_backward(*ctx.saved_tensors, d_out_BTD, ctx.heads), None)


def _keep(ctx, inputs, output: Tensor) -> None:  # type: ignore[no-untyped-def]
    *tensors, ctx.heads = inputs
    ctx.save_for_backward(*tensors)


fused.register_autograd(_differentiate, setup_context=_keep)
