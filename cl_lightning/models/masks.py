"""Binary masks: drawn while they are learnt, kept as bits afterwards.

A mask is learnt through one logit l for each bit, the keep logit minus the drop logit of a Gumbel softmax (Xue et al.,
MEAT, CVPR 2022, equation 6). The difference of two Gumbel variables is logistic, so

    m_soft = sigmoid((l + logit(u)) / tau),  u uniform on (0, 1),

is the Gumbel softmax of the pair, at half of its memory and noise. Forward, a bit is 1 where m_soft > 1/2; backward,
the gradient is that of m_soft (straight through). Under Adam both logits of a pair would move by one rate in opposite
directions: l needs *twice* the learning rate to move alike.

Uniforms are drawn from streams (``rng.streams``), 64 bits fed to a step, where they are used.

Legend: M bits, B images, N tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.core import rng

_BITS = 23
"""Bits of a uniform: (k + 1/2) / 2^23 is exact in float32, and neither 0 nor 1."""


def uniforms(streams: Int64[Tensor, " *#shape"], slots: Int64[Tensor, " *#shape"]) -> Float32[Tensor, " *shape"]:
    """Draw from the open interval (0, 1), a number for each slot of ``streams`` (broadcast)."""
    return _open((rng.bits_of(streams, slots) >> 41) & ((1 << _BITS) - 1))


def many_uniforms(stream: Int64[Tensor, ""], first: int, count: int) -> Float32[Tensor, " {count}"]:
    """Draw from one stream, two numbers for each 64 random bits; ``first`` is the first slot, half as many are used."""
    words = rng.bits_of(stream, torch.arange(first, first + (count + 1) // 2, device=stream.device))
    low = (1 << _BITS) - 1
    return _open(torch.cat([(words >> 41) & low, (words >> 18) & low])[:count])


def _open(k: Int64[Tensor, " *shape"]) -> Float32[Tensor, " *shape"]:
    return (k.float() + 0.5) * (1.0 / (1 << _BITS))


def sample(
    logits: Float[Tensor, " *#shape"], u: Float[Tensor, " *#shape"], temperature: float
) -> Float[Tensor, " *shape"]:
    """Draw hard masks in {0, 1} with the gradient of the soft ones; ``logits`` and ``u`` broadcast."""
    score = logits + torch.logit(u)
    soft = (score / temperature).sigmoid()
    return (score > 0).to(soft.dtype) + (soft - soft.detach())


def hard_mask(logits: Float[Tensor, " *shape"]) -> Bool[Tensor, " *shape"]:
    """Return the mask without noise: true where keeping is likelier than dropping (ties drop)."""
    return logits > 0


def masked_weight(
    weight: Float[Tensor, "out in"],
    logits_M: Float[Tensor, " M"],
    stream: Int64[Tensor, ""],
    first: int,
    temperature: float,
) -> Float[Tensor, "out in"]:
    """Return ``weight`` times a mask drawn for each of its M numbers: :func:`sample` in one pass a layer.

    Saved for the backward pass is one number a weight, the product of weight and slope, in place of noise, scores,
    soft and hard masks; the pair of Gumbel variables would need twice as many of each. ``weight`` is taken as
    frozen: it gets no gradient.
    """
    return _MaskedWeight.apply(weight.detach(), logits_M, stream, first, temperature)


class _MaskedWeight(torch.autograd.Function):
    """A product of weight and mask, whose backward pass needs one saved number a weight."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, logits_M: Tensor, stream: Tensor, first: int, temperature: float) -> Tensor:
        score = many_uniforms(stream, first, logits_M.numel()).logit_().add_(logits_M).view_as(weight)
        keep = score > 0
        soft = score.div_(temperature).sigmoid_()
        slope = torch.addcmul(soft, soft, soft, value=-1).mul_(weight)
        if temperature != 1.0:
            slope.div_(temperature)
        ctx.save_for_backward(slope)
        return weight * keep

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return None, (gradient * slope).flatten(), None, None, None


def token_masks(
    logits_LN: Float[Tensor, "L N"], streams_B: Int64[Tensor, " B"], temperature: float
) -> Float[Tensor, "L B N"]:
    """Draw the masks of L layers for each image."""
    layers, tokens = logits_LN.shape
    slots_LN = torch.arange(layers * tokens, device=logits_LN.device).view(layers, tokens)
    return sample(logits_LN[:, None], uniforms(streams_B[None, :, None], slots_LN[:, None]), temperature)


def open_with_self(mask_bN: Float[Tensor, "b N"]) -> Float[Tensor, "b 1+N 1+N"]:
    """Return M_ij = m_j + (1 - m_j) [i = j]: whether token i may attend to token j under a mask of the N patches.

    The class token, first, is seen by all; a masked patch is seen by itself alone.
    """
    m_b1n = F.pad(mask_bN, (1, 0), value=1)[:, None]
    return m_b1n + (1 - m_b1n) * torch.eye(m_b1n.shape[-1], dtype=mask_bN.dtype, device=mask_bN.device)


_SMOOTHING = 1e-6


def masked_softmax(
    scores: Float[Tensor, "*batch n n"], seen: Float[Tensor, "*#batch n n"]
) -> Float32[Tensor, "*batch n n"]:
    """Return the softmax of ``scores`` over those that are ``seen`` (0 or 1), in float32.

    (a + e / n) / (sum a + e), a = exp(score - max) seen, e = 1e-6, the maximum over all n (equation 5, smoothed as in
    the public code).

    A factor, unlike a summand of minus infinity, has a finite gradient where it is 0: what is dropped can come back.
    """
    scores = scores.float()
    a = (scores - scores.amax(dim=-1, keepdim=True)).exp() * seen
    return (a + _SMOOTHING / scores.shape[-1]) / (a.sum(dim=-1, keepdim=True) + _SMOOTHING)


def pack(mask: Bool[Tensor, " ..."]) -> UInt8[Tensor, " bytes"]:
    """Pack a mask of any shape, eight bits a byte (low bits first, the last byte filled with zeros)."""
    bits = F.pad(mask.flatten().to(torch.uint8), (0, -mask.numel() % 8)).view(-1, 8)
    return (bits << _shifts(bits)).sum(dim=1, dtype=torch.uint8)


def unpack(packed: UInt8[Tensor, " bytes"], count: int) -> Bool[Tensor, " {count}"]:
    """Return the first ``count`` bits."""
    return ((packed[:, None] >> _shifts(packed)) & 1).flatten()[:count].bool()


def _shifts(like: Tensor) -> UInt8[Tensor, " 8"]:
    return torch.arange(8, dtype=torch.uint8, device=like.device)
