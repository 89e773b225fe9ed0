"""Gated positional attention of small images in one kernel a direction, on a GPU.

A 32-pixel image has 64 patches: the attention of one head over one image is a 64 x 64 matrix that fits into registers.
Written as operators, its halves (content and position) go to memory and back, the position's once for every image. Here
a program keeps both, mixes them, and reads values once; the backward pass computes the matrix anew instead of
storing it, and adds up the position's gradient over the images that it handles before it writes anything.

Legend: B batch, N patches, H heads, E = D / H, D width.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Float32
from torch import Tensor

IMAGES_A_PROGRAM = 8
"""Images a program of the backward pass: more gives fewer partial sums of the position's gradient, and fewer programs
to fill a GPU.
"""
WARPS = 4


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    qk, v, position, gate, out, scale,
    N: tl.constexpr, H: tl.constexpr, E: tl.constexpr, P: tl.constexpr, W: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute one head of one image; P and W are N and E padded to powers of two."""
    image, head = tl.program_id(0) // H, tl.program_id(0) % H
    n, e = tl.arange(0, P), tl.arange(0, W)
    inside, wide = n < N, e < E
    rows = (image * N + n)[:, None]
    mask = inside[:, None] & wide[None, :]
    at = head * E + e[None, :]
    q = tl.load(qk + rows * (2 * H * E) + at, mask, 0.0)
    k = tl.load(qk + rows * (2 * H * E) + H * E + at, mask, 0.0)
    values = tl.load(v + rows * (H * E) + at, mask, 0.0)
    pair = inside[:, None] & inside[None, :]
    where = tl.load(position + head * N * N + n[:, None] * N + n[None, :], pair, 0.0).to(tl.float32)
    g = tl.load(gate + head).to(tl.float32)
    scores = tl.where(inside[None, :], tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale, float("-inf"))
    content = tl.exp(scores - tl.max(scores, 1)[:, None])
    content = content / tl.sum(content, 1)[:, None]
    mixed = (1.0 - g) * content + g * where
    read = tl.dot(mixed.to(values.dtype), values, input_precision=PRECISION)
    tl.store(out + rows * (H * E) + at, read.to(out.dtype.element_ty), mask)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    qk, v, position, gate, d_out, d_qk, d_v, d_position, d_gate, scale, B,
    N: tl.constexpr, H: tl.constexpr, E: tl.constexpr, P: tl.constexpr, W: tl.constexpr, IMAGES: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute one head of ``IMAGES`` images, and its partial sums of the gradients of position and gate."""
    group, head = tl.program_id(0) // H, tl.program_id(0) % H
    n, e = tl.arange(0, P), tl.arange(0, W)
    inside, wide = n < N, e < E
    mask = inside[:, None] & wide[None, :]
    pair = inside[:, None] & inside[None, :]
    at = head * E + e[None, :]
    square = n[:, None] * N + n[None, :]
    where = tl.load(position + head * N * N + square, pair, 0.0).to(tl.float32)
    g = tl.load(gate + head).to(tl.float32)
    sum_position = tl.zeros((P, P), tl.float32)
    sum_gate = tl.zeros((P,), tl.float32)
    for image in range(group * IMAGES, min((group + 1) * IMAGES, B)):
        rows = (image * N + n)[:, None]
        q = tl.load(qk + rows * (2 * H * E) + at, mask, 0.0)
        k = tl.load(qk + rows * (2 * H * E) + H * E + at, mask, 0.0)
        values = tl.load(v + rows * (H * E) + at, mask, 0.0)
        d_read = tl.load(d_out + rows * (H * E) + at, mask, 0.0).to(values.dtype)
        scores = tl.where(inside[None, :], tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale, float("-inf"))
        content = tl.exp(scores - tl.max(scores, 1)[:, None])
        content = content / tl.sum(content, 1)[:, None]
        mixed = ((1.0 - g) * content + g * where).to(values.dtype)
        d_values = tl.dot(tl.trans(mixed), d_read, input_precision=PRECISION)
        tl.store(d_v + rows * (H * E) + at, d_values.to(d_v.dtype.element_ty), mask)
        d_mixed = tl.where(pair, tl.dot(d_read, tl.trans(values), input_precision=PRECISION), 0.0)
        sum_position += d_mixed
        along = tl.sum(d_mixed * content, 1)
        sum_gate += tl.sum(d_mixed * where, 1) - along
        d_scores = ((1.0 - g) * scale * content * (d_mixed - along[:, None])).to(q.dtype)
        d_q = tl.dot(d_scores, k, input_precision=PRECISION)
        d_k = tl.dot(tl.trans(d_scores), q, input_precision=PRECISION)
        tl.store(d_qk + rows * (2 * H * E) + at, d_q.to(d_qk.dtype.element_ty), mask)
        tl.store(d_qk + rows * (2 * H * E) + H * E + at, d_k.to(d_qk.dtype.element_ty), mask)
    tl.store(d_position + tl.program_id(0) * N * N + square, g * sum_position, pair)
    tl.store(d_gate + tl.program_id(0), tl.sum(tl.where(inside, sum_gate, 0.0), 0))


def forward(
    qk_BN2D: Float[Tensor, "B N 2*D"],
    v_BND: Float[Tensor, "B N D"],
    position_HNN: Float[Tensor, "H N N"],
    gate_H: Float[Tensor, " H"],
) -> Float[Tensor, "B N D"]:
    """Return the output of all heads."""
    out = torch.empty_like(v_BND)
    images, _, dim = v_BND.shape
    heads = len(gate_H)
    _forward[(images * heads,)](
        qk_BN2D,
        v_BND,
        position_HNN,
        gate_H,
        out,
        (dim // heads) ** -0.5,
        **_sizes(v_BND, heads),
        num_warps=WARPS,
        enable_fp_fusion=True,
    )
    return out


def backward(
    qk_BN2D: Float[Tensor, "B N 2*D"],
    v_BND: Float[Tensor, "B N D"],
    position_HNN: Float[Tensor, "H N N"],
    gate_H: Float[Tensor, " H"],
    d_out_BND: Float[Tensor, "B N D"],
) -> tuple[
    Float[Tensor, "B N 2*D"], Float[Tensor, "B N D"], Float32[Tensor, "groups H N N"], Float32[Tensor, "groups H"]
]:
    """Return the gradients of the inputs of :func:`forward`; those of position and gate as partial sums."""
    images, patches, dim = v_BND.shape
    heads = len(gate_H)
    groups = triton.cdiv(images, IMAGES_A_PROGRAM)
    d_qk, d_v = torch.empty_like(qk_BN2D), torch.empty_like(v_BND)
    d_position = torch.empty(groups, heads, patches, patches, dtype=torch.float32, device=v_BND.device)
    d_gate = torch.empty(groups, heads, dtype=torch.float32, device=v_BND.device)
    _backward[(groups * heads,)](
        qk_BN2D, v_BND, position_HNN, gate_H, d_out_BND, d_qk, d_v, d_position, d_gate, (dim // heads) ** -0.5, images,
        **_sizes(v_BND, heads), IMAGES=IMAGES_A_PROGRAM, num_warps=WARPS, enable_fp_fusion=True,
    )  # fmt: skip
    return d_qk, d_v, d_position, d_gate


def _sizes(v_BND: Float[Tensor, "B N D"], heads: int) -> dict[str, object]:
    _, patches, dim = v_BND.shape
    width = dim // heads
    padded = {"P": max(16, triton.next_power_of_2(patches)), "W": max(16, triton.next_power_of_2(width))}
    precision = "ieee" if v_BND.dtype == torch.float32 else "tf32"  # of half precision there is only one
    return {"N": patches, "H": heads, "E": width, **padded, "PRECISION": precision}
