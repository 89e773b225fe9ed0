"""Attention of a few task tokens over the patches of each image, in one kernel a direction.

The tokens are the same for all images, and each sees its own key and value beside the patches'. As operators that is a
dozen small kernels each way, with the tokens copied for every image. Here a program handles one head of one image
forward, and of several images backward, where it adds up the gradients of what the images share.

Legend: B batch, N patches, T tokens, H heads, E = D / H, D width.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Float32
from torch import Tensor

IMAGES_A_PROGRAM = 4
"""Images a program of the backward pass: more gives fewer partial sums of the tokens' gradients, and fewer programs to
fill a GPU.
"""
WARPS = 4


@triton.jit
def _weights(q, k, own_k, patch, scale, PRECISION: tl.constexpr):  # type: ignore[no-untyped-def]
    """Compute the softmax over the token itself and the patches: (P_T, P_N) and (P_T,)."""
    scores = tl.where(patch[None, :], tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale, float("-inf"))
    itself = tl.sum(q.to(tl.float32) * own_k.to(tl.float32), 1) * scale
    top = tl.maximum(tl.max(scores, 1), itself)
    weights, own = tl.exp(scores - top[:, None]), tl.exp(itself - top)
    total = tl.sum(weights, 1) + own
    return weights / total[:, None], own / total


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    q, own_k, own_v, k, v, out, scale,
    T: tl.constexpr, N: tl.constexpr, H: tl.constexpr, E: tl.constexpr,
    P_T: tl.constexpr, P_N: tl.constexpr, P_E: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute one head of one image; the P_ are padded to powers of two."""
    image, head = tl.program_id(0) // H, tl.program_id(0) % H
    t, n, e = tl.arange(0, P_T), tl.arange(0, P_N), tl.arange(0, P_E)
    at = head * E + e[None, :]
    token, patch = (t < T)[:, None] & (e < E)[None, :], (n < N)[:, None] & (e < E)[None, :]
    tokens, patches = t[:, None] * (H * E) + at, (image * N + n)[:, None] * (H * E) + at
    queries, keys = tl.load(q + tokens, token, 0.0), tl.load(k + patches, patch, 0.0)
    weights, own = _weights(queries, keys, tl.load(own_k + tokens, token, 0.0), n < N, scale, PRECISION)
    values = tl.load(v + patches, patch, 0.0)
    read = tl.dot(weights.to(values.dtype), values, input_precision=PRECISION)
    read += own[:, None] * tl.load(own_v + tokens, token, 0.0).to(tl.float32)
    tl.store(out + image * T * H * E + tokens, read.to(out.dtype.element_ty), token)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    q, own_k, own_v, k, v, d_out, d_q, d_own_k, d_own_v, d_k, d_v, scale, B,
    T: tl.constexpr, N: tl.constexpr, H: tl.constexpr, E: tl.constexpr,
    P_T: tl.constexpr, P_N: tl.constexpr, P_E: tl.constexpr, IMAGES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute one head of ``IMAGES`` images, and its partial sums of the gradients of the tokens' queries, keys and
    values.
    """
    group, head = tl.program_id(0) // H, tl.program_id(0) % H
    t, n, e = tl.arange(0, P_T), tl.arange(0, P_N), tl.arange(0, P_E)
    at = head * E + e[None, :]
    token, patch = (t < T)[:, None] & (e < E)[None, :], (n < N)[:, None] & (e < E)[None, :]
    tokens = t[:, None] * (H * E) + at
    queries, keys_own = tl.load(q + tokens, token, 0.0), tl.load(own_k + tokens, token, 0.0)
    values_own = tl.load(own_v + tokens, token, 0.0).to(tl.float32)
    sum_q, sum_k = tl.zeros((P_T, P_E), tl.float32), tl.zeros((P_T, P_E), tl.float32)
    sum_v = tl.zeros((P_T, P_E), tl.float32)
    for image in range(group * IMAGES, min((group + 1) * IMAGES, B)):
        patches = (image * N + n)[:, None] * (H * E) + at
        keys, values = tl.load(k + patches, patch, 0.0), tl.load(v + patches, patch, 0.0)
        weights, own = _weights(queries, keys, keys_own, n < N, scale, PRECISION)
        d_read = tl.load(d_out + image * T * H * E + tokens, token, 0.0)
        narrow = d_read.to(values.dtype)
        d_values = tl.dot(tl.trans(weights.to(values.dtype)), narrow, input_precision=PRECISION)
        tl.store(d_v + patches, d_values.to(d_v.dtype.element_ty), patch)
        d_weights = tl.dot(narrow, tl.trans(values), input_precision=PRECISION)
        d_own = tl.sum(d_read.to(tl.float32) * values_own, 1)
        along = tl.sum(d_weights * weights, 1) + d_own * own
        d_scores = (scale * weights * (d_weights - along[:, None])).to(queries.dtype)
        d_itself = (scale * own * (d_own - along))[:, None]
        d_keys = tl.dot(tl.trans(d_scores), queries, input_precision=PRECISION)
        tl.store(d_k + patches, d_keys.to(d_k.dtype.element_ty), patch)
        sum_q += tl.dot(d_scores, keys, input_precision=PRECISION) + d_itself * keys_own.to(tl.float32)
        sum_k += d_itself * queries.to(tl.float32)
        sum_v += own[:, None] * d_read.to(tl.float32)
    partial = group * T * H * E + tokens
    tl.store(d_q + partial, sum_q, token)
    tl.store(d_own_k + partial, sum_k, token)
    tl.store(d_own_v + partial, sum_v, token)


def forward(inputs: tuple[Tensor, ...], heads: int) -> Float[Tensor, "B T D"]:
    """Return the output of each token, from the tokens' queries, keys and values (T, D) and the patches' keys and
    values (B, N, D), all contiguous and of one type.
    """
    q_TD, own_k_TD, own_v_TD, k_BND, v_BND = inputs
    images, dim = len(k_BND), k_BND.shape[-1]
    out = k_BND.new_empty(images, len(q_TD), dim)
    _forward[(images * heads,)](
        q_TD, own_k_TD, own_v_TD, k_BND, v_BND, out, (dim // heads) ** -0.5, **_sizes(q_TD, k_BND, heads),
        num_warps=WARPS, enable_fp_fusion=True,
    )  # fmt: skip
    return out


def backward(
    inputs: tuple[Tensor, ...], heads: int
) -> tuple[
    Float32[Tensor, "groups T D"],
    Float32[Tensor, "groups T D"],
    Float32[Tensor, "groups T D"],
    Float[Tensor, "B N D"],
    Float[Tensor, "B N D"],
]:
    """Return the gradients of the five inputs of :func:`forward`, the tokens' as partial sums.

    ``inputs`` ends with a sixth tensor, the gradient of the output (B, T, D).
    """
    q_TD, own_k_TD, own_v_TD, k_BND, v_BND, d_out_BTD = inputs
    images, dim = len(k_BND), k_BND.shape[-1]
    groups = triton.cdiv(images, IMAGES_A_PROGRAM)
    d_q, d_own_k, d_own_v = (
        torch.empty(groups, len(q_TD), dim, dtype=torch.float32, device=q_TD.device) for _ in range(3)
    )
    d_k, d_v = torch.empty_like(k_BND), torch.empty_like(v_BND)
    _backward[(groups * heads,)](
        q_TD, own_k_TD, own_v_TD, k_BND, v_BND, d_out_BTD, d_q, d_own_k, d_own_v, d_k, d_v, (dim // heads) ** -0.5,
        images, **_sizes(q_TD, k_BND, heads), IMAGES=IMAGES_A_PROGRAM, num_warps=WARPS, enable_fp_fusion=True,
    )  # fmt: skip
    return d_q, d_own_k, d_own_v, d_k, d_v


def _sizes(q_TD: Float[Tensor, "T D"], k_BND: Float[Tensor, "B N D"], heads: int) -> dict[str, object]:
    tokens, (_, patches, dim) = len(q_TD), k_BND.shape
    sizes: dict[str, object] = {"T": tokens, "N": patches, "H": heads, "E": dim // heads}
    for name in ("T", "N", "E"):
        sizes[f"P_{name}"] = max(16, triton.next_power_of_2(sizes[name]))
    sizes["PRECISION"] = "ieee" if k_BND.dtype == torch.float32 else "tf32"  # of half precision there is only one
    return sizes
