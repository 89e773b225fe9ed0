"""Gated positional self-attention as a function (ConViT, equations 6-9): by operators, or on a GPU in one kernel.

Custom operators are annotated with plain tensors: torch reads their schemas from the annotations.

Legend: B batch, N patches, H heads, E = D / H, D width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.models import kernels
from cl_lightning.models.attention import attention_weights, learns_by_matrices
from cl_lightning.models.layers import split_heads

_MOST_PATCHES = 64
"""Upper bound on patches: a head's attention has to fit into registers."""


def gated_attention(
    qk_BN2D: Float[Tensor, "B N 2*D"],
    v_BND: Float[Tensor, "B N D"],
    position_HNN: Float[Tensor, "H N N"],
    gate_H: Float[Tensor, " H"],
) -> Float[Tensor, "B N D"]:
    """Return (1 - g) softmax(q k^T / sqrt(E)) v + g position v, for each head.

    ``position_HNN`` is the positional attention, rows of sum one; ``gate_H`` lies in (0, 1).
    """
    if kernels.supports(v_BND, v_BND.shape[2] // len(gate_H)) and v_BND.shape[1] <= _MOST_PATCHES:
        return fused(qk_BN2D, v_BND, position_HNN, gate_H)
    return eager(qk_BN2D, v_BND, position_HNN, gate_H)


def eager(
    qk_BN2D: Float[Tensor, "B N 2*D"],
    v_BND: Float[Tensor, "B N D"],
    position_HNN: Float[Tensor, "H N N"],
    gate_H: Float[Tensor, " H"],
) -> Float[Tensor, "B N D"]:
    """Compute :func:`gated_attention` on any device: content by torch's attention, position by one product of
    matrices; where attention is not learnt by torch's kernel, both are mixed before they are multiplied with v.
    """
    heads, gate = len(gate_H), gate_H.view(-1, 1, 1)
    q, k, v = (split_heads(t, heads) for t in (*qk_BN2D.chunk(2, dim=-1), v_BND))
    if learns_by_matrices(q):
        weights = attention_weights(q, k)
        mixed = torch.lerp(weights, position_HNN.to(v.dtype).expand_as(weights), gate.to(v.dtype)) @ v
    else:
        content = F.scaled_dot_product_attention(q, k, v)
        position = (gate * position_HNN).to(v.dtype) @ v
        mixed = (1.0 - gate).to(content.dtype) * content + position
    return mixed.transpose(1, 2).reshape(v_BND.shape)


@torch.library.custom_op("cl_lightning::gated_attention", mutates_args=())
def fused(qk_BN2D: Tensor, v_BND: Tensor, position_HNN: Tensor, gate_H: Tensor) -> Tensor:
    """Compute :func:`gated_attention` by the kernel."""
    from cl_lightning.models.kernels import gated_attention as kernel

    return kernel.forward(qk_BN2D.contiguous(), v_BND.contiguous(), position_HNN.contiguous(), gate_H.contiguous())


@torch.library.custom_op("cl_lightning::gated_attention_backward", mutates_args=())
def _backward(
    qk_BN2D: Tensor, v_BND: Tensor, position_HNN: Tensor, gate_H: Tensor, d_out_BND: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from cl_lightning.models.kernels import gated_attention as kernel

    inputs = (qk_BN2D, v_BND, position_HNN, gate_H, d_out_BND)
    d_qk, d_v, d_position, d_gate = kernel.backward(*(each.contiguous() for each in inputs))
    return d_qk, d_v, d_position.sum(0).to(position_HNN.dtype), d_gate.sum(0).to(gate_H.dtype)


@fused.register_fake
def _(qk_BN2D: Tensor, v_BND: Tensor, position_HNN: Tensor, gate_H: Tensor) -> Tensor:
    return v_BND.new_empty(v_BND.shape)


@_backward.register_fake
def _(
    qk_BN2D: Tensor, v_BND: Tensor, position_HNN: Tensor, gate_H: Tensor, d_out_BND: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    like = (qk_BN2D, v_BND, position_HNN, gate_H)
    return tuple(each.new_empty(each.shape) for each in like)  # type: ignore[return-value]


def _differentiate(ctx, d_out_BND: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # type: ignore[no-untyped-def]
    return _backward(*ctx.saved_tensors, d_out_BND)


def _keep(ctx, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)


fused.register_autograd(_differentiate, setup_context=_keep)
