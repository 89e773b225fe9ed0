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
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.core import rng

_BITS = 23
"""Of a uniform: (k + 1/2) / 2^23 is exact in float32, and neither 0 nor 1."""


def uniforms(streams: Tensor, slots: Tensor) -> Tensor:
    """Float32 uniform on the open interval (0, 1), a number for each slot of ``streams`` (int64, broadcast)."""
    return _open((rng.bits_of(streams, slots) >> 41) & ((1 << _BITS) - 1))


def many_uniforms(stream: Tensor, first: int, count: int) -> Tensor:
    """(count,) of one stream, two for each 64 random bits; ``first`` is the first slot, half as many are used."""
    words = rng.bits_of(stream, torch.arange(first, first + (count + 1) // 2, device=stream.device))
    low = (1 << _BITS) - 1
    return _open(torch.cat([(words >> 41) & low, (words >> 18) & low])[:count])


def _open(k: Tensor) -> Tensor:
    return (k.float() + 0.5) * (1.0 / (1 << _BITS))


def sample(logits: Tensor, u: Tensor, temperature: float) -> Tensor:
    """Hard masks in {0, 1} with the gradient of the soft ones; ``logits`` and ``u`` broadcast."""
    score = logits + torch.logit(u)
    soft = (score / temperature).sigmoid()
    return (score > 0).to(soft.dtype) + (soft - soft.detach())


def kept(logits: Tensor) -> Tensor:
    """The mask without noise, bool: a bit is kept where keeping is likelier than dropping (ties drop)."""
    return logits > 0


def masked_weight(weight: Tensor, logits_M: Tensor, stream: Tensor, first: int, temperature: float) -> Tensor:
    """``weight`` times a mask drawn for each of its M numbers: :func:`sample` in one pass a layer.

    What is kept for the way back is one number a weight, the product of weight and slope, in place of noise, scores,
    soft and hard masks; the pair of Gumbel variables would need twice as many of each. ``weight`` is taken as
    frozen: it gets no gradient.
    """
    return _MaskedWeight.apply(weight.detach(), logits_M, stream, first, temperature)


class _MaskedWeight(torch.autograd.Function):
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


def token_masks(logits_LN: Tensor, streams_B: Tensor, temperature: float) -> Tensor:
    """(L, B, N) masks of L layers, drawn for each image."""
    layers, tokens = logits_LN.shape
    slots_LN = torch.arange(layers * tokens, device=logits_LN.device).view(layers, tokens)
    return sample(logits_LN[:, None], uniforms(streams_B[None, :, None], slots_LN[:, None]), temperature)


def open_with_self(mask_bN: Tensor) -> Tensor:
    """(b, 1 + N, 1 + N) who sees whom under a mask of the N patches: M_ij = m_j + (1 - m_j) [i = j]. The class token,
    first, is seen by all; a masked patch is seen by itself alone.
    """
    m_b1n = F.pad(mask_bN, (1, 0), value=1)[:, None]
    return m_b1n + (1 - m_b1n) * torch.eye(m_b1n.shape[-1], dtype=mask_bN.dtype, device=mask_bN.device)


_SMOOTHING = 1e-6


def masked_softmax(scores: Tensor, seen: Tensor) -> Tensor:
    """The softmax of ``scores`` (..., n, n) over those that are ``seen`` (0 or 1), in float32:
    (a + e / n) / (sum a + e), a = exp(score - max) seen, e = 1e-6, the maximum over all n (equation 5, smoothed as in
    the public code).

    A factor, unlike a summand of minus infinity, has a finite gradient where it is 0: what is dropped can come back.
    """
    scores = scores.float()
    a = (scores - scores.amax(dim=-1, keepdim=True)).exp() * seen
    return (a + _SMOOTHING / scores.shape[-1]) / (a.sum(dim=-1, keepdim=True) + _SMOOTHING)


def pack(mask: Tensor) -> Tensor:
    """Eight bits a byte (uint8, low bits first, the last byte filled with zeros) of a mask of any shape."""
    bits = F.pad(mask.flatten().to(torch.uint8), (0, -mask.numel() % 8)).view(-1, 8)
    return (bits << _shifts(bits)).sum(dim=1, dtype=torch.uint8)


def unpack(packed: Tensor, count: int) -> Tensor:
    """The first ``count`` bits, bool."""
    return ((packed[:, None] >> _shifts(packed)) & 1).flatten()[:count].bool()


def _shifts(like: Tensor) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=like.device)
