"""Classification by similarities to proxies, in three forms that differ in what the margin does.

Douillard et al., PODNet (ECCV 2020), equations 9 and 10, after Movshovitz-Attias et al., No fuss distance metric
learning using proxies (ICCV 2017):

============ ======================================================================================================
``paper``    max(0, log sum of exp(s_i), i not the class, minus (s_y - scale * margin)): an image whose class leads by
             the margin counts no more.
``no_hinge`` the same without the maximum. Its margin is a constant in all similarities: it moves nothing but the scale.
``public``   log(1 + sum of exp(s_i - s_max), i not the class) - (s_y - s_max), as in the published code, where the
             margin cancels, and the place of the class in the sum is taken by exp(0).
============ ======================================================================================================

Legend: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cl_lightning.losses.precision import at_least_float32


def nca(
    scores_BC: Float[Tensor, "B C"],
    labels_B: Int64[Tensor, " B"],
    scale: Float[Tensor, " one"],
    margin: float,
    form: str,
    weights_B: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    """Return the loss, mean over images.

    Args:
        scores_BC: similarities times ``scale``.
        labels_B: classes.
        scale: the learnt scale.
        margin: lead in similarity that the class shall have, >= 0.
        form: one of :data:`FORMS`.
        weights_B: weights of the images (``data.balance=loss``); None: 1.
    """
    scores_BC = at_least_float32(scores_BC)
    right_B = scores_BC.gather(1, labels_B[:, None])[:, 0]
    is_right_BC = labels_B[:, None] == torch.arange(scores_BC.shape[1], device=labels_B.device)
    terms_B = FORMS[form](scores_BC, right_B, is_right_BC, margin * scale)
    return (terms_B if weights_B is None else weights_B * terms_B).mean()


def _no_hinge(scores_BC: Tensor, right_B: Tensor, is_right_BC: Tensor, margin: Tensor) -> Float[Tensor, " B"]:
    others_B = scores_BC.masked_fill(is_right_BC, -torch.inf).logsumexp(dim=1)
    return others_B - right_B + margin


def _paper(scores_BC: Tensor, right_B: Tensor, is_right_BC: Tensor, margin: Tensor) -> Float[Tensor, " B"]:
    return _no_hinge(scores_BC, right_B, is_right_BC, margin).clamp(min=0)


def _public(scores_BC: Tensor, right_B: Tensor, is_right_BC: Tensor, margin: Tensor) -> Float[Tensor, " B"]:
    largest_B1 = scores_BC.max(dim=1, keepdim=True).values
    shifted_BC = (scores_BC - largest_B1).masked_fill(is_right_BC, 0.0)  # exp(0) in place of the class
    return shifted_BC.logsumexp(dim=1) - (right_B - largest_B1[:, 0])


FORMS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "paper": _paper,
    "public": _public,
    "no_hinge": _no_hinge,
}
"""Name -> loss of each image."""
