"""Hard attention to the task: masks of units that sharpen within an epoch, gradients that spare what older tasks use.

Serra, Suris, Miron & Karatzoglou, "Overcoming catastrophic forgetting with hard attention to the task" (ICML 2018). The
units of a layer are multiplied by a = sigmoid(s e), with an embedding e for each task and a scale s that rises within
an epoch from 1 / s_max towards s_max (equation 3). Two rules act on gradients, and both are products with what does not
depend on the images, so that they may be part of the backward pass, within each process, before any average:

- that of a weight is multiplied by 1 - min(used_out, used_in), where *used* is the largest mask of all older tasks
  (equation 2): a weight between two units that they use does not move;
- that of an embedding is compensated for the steep sigmoid (equation 4): times s_max sigmoid'(e) / (s sigmoid'(s e)).

Legend: U units, T tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

COMPENSATIONS = ("published", "exact")
"""Forms of the compensation."""
_STEEPEST = 50.0
"""Largest |s e| of the published compensation, beyond which a hyperbolic cosine would overflow."""


def annealed(share: float, s_max: float) -> float:
    """Return the scale after ``share`` of an epoch's images, in [0, 1): 1 / s_max at first, never quite s_max."""
    return 1 / s_max + (s_max - 1 / s_max) * share


def gate(
    embedding_U: Float[Tensor, " U"], scale: Float[Tensor, ""], s_max: float, compensation: str
) -> Float[Tensor, " U"]:
    """Return the masks sigmoid(s e) in [0, 1], whose gradient reaches the embedding compensated.

    Args:
        embedding_U: of one task.
        scale: the annealed s, > 0.
        s_max: its largest value.
        compensation: ``published`` multiplies what autograd returns by s_max (cosh(s e) + 1) / (s (cosh(e) + 1)), s e
            clamped to +-50, as the public code does. Where the sigmoid has rounded to one there is nothing left to
            multiply: in float32 an open unit with s e > 16.6 has no gradient. ``exact`` is what the product stands for,
            s_max sigmoid'(e).
    """
    return _Gate.apply(embedding_U, scale, s_max, compensation == "published")


class _Gate(torch.autograd.Function):
    """A sigmoid with the compensated gradient."""

    @staticmethod
    def forward(ctx: Any, embedding: Tensor, scale: Tensor, s_max: float, published: bool) -> Tensor:
        mask = torch.sigmoid(scale * embedding)
        ctx.save_for_backward(embedding, scale, mask)
        ctx.s_max, ctx.published = s_max, published
        return mask

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        embedding, scale, mask = ctx.saved_tensors
        if not ctx.published:
            slope = torch.sigmoid(embedding) * torch.sigmoid(-embedding)  # 1 - sigmoid would round
            return gradient * (ctx.s_max * slope), None, None, None
        plain = scale * (gradient * (1 - mask) * mask)
        steep = torch.cosh((scale * embedding).clamp(-_STEEPEST, _STEEPEST)) + 1
        return plain * (ctx.s_max / scale * steep / (torch.cosh(embedding) + 1)), None, None, None


@dataclass(frozen=True)
class Between:
    """The place of a parameter between masked layers."""

    out: int
    """The masked layer whose units it makes."""
    into: int | None = None
    """The masked layer whose units it reads; None: the image, or nothing (a bias)."""
    out_rows: int = 1
    """Adjacent rows that belong to one unit (the features of a head)."""
    out_times: int = 1
    """Number of times that the units follow one another in the rows (queries, keys, values)."""
    into_columns: int = 1
    """Adjacent columns that belong to one unit (the positions of a channel)."""
    axis: int = 0
    """Dimension of the rows, where nothing is read (-1: of a token)."""

    def used(self, used: Sequence[Float[Tensor, " _units"]], dims: int) -> tuple[Tensor, Tensor]:
        """Return how far older tasks use the units that it makes and those that it reads, each broadcast to the
        ``dims`` dimensions of the parameter; twice the first where it reads none.
        """
        rows = used[self.out].repeat_interleave(self.out_rows).repeat(self.out_times)
        if self.into is None:
            shape = [1] * dims
            shape[self.axis] = -1
            return rows.view(shape), rows.view(shape)
        columns = used[self.into].repeat_interleave(self.into_columns)
        return rows.view(-1, *[1] * (dims - 1)), columns.view(1, -1, *[1] * (dims - 2))


def spared(weight: Tensor, place: Between, used: Sequence[Float[Tensor, " _units"]]) -> Tensor:
    """Return ``weight`` with a gradient times 1 - min(used_out, used_in); ``used`` is in [0, 1] for each masked
    layer.
    """
    return _Spared.apply(weight, *place.used(used, weight.ndim))


class _Spared(torch.autograd.Function):
    """The identity, with a factor of the gradient; the factor, as large as the weight, is not kept."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, out: Tensor, into: Tensor) -> Tensor:
        ctx.save_for_backward(out, into)
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        out, into = ctx.saved_tensors
        return gradient * (1 - torch.minimum(out, into)), None, None


def share_open(masks_U: Float[Tensor, " U"]) -> Float[Tensor, ""]:
    """Return the share of masks above one half."""
    return (masks_U > 0.5).float().mean()
