"""Classification losses on soft targets.

Each takes weights of the images, (B,), by which a class with few images may count for more (``data.balance=loss``). The
mean stays one over all images: weights have mean 1 over a phase, so equal parts of a batch may be averaged.

Legend: B batch, C classes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.losses.precision import at_least_float32


def binary_cross_entropy(
    logits_BC: Float[Tensor, "B C"], targets_BC: Float[Tensor, "B C"], weights_B: Float[Tensor, " B"] | None = None
) -> Float[Tensor, ""]:
    """Return the sigmoid cross-entropy, mean over images *and* classes (DyTox, section 3.3; iCaRL, algorithm 3).

    The mean over classes makes each score's gradient shrink as 1 / C when classes arrive: it is part of the published
    recipe.
    """
    logits_BC, targets_BC = at_least_float32(logits_BC), at_least_float32(targets_BC)
    return F.binary_cross_entropy_with_logits(logits_BC, targets_BC, None if weights_B is None else weights_B[:, None])


def cross_entropy(
    logits_BC: Float[Tensor, "B C"], targets_BC: Float[Tensor, "B C"], weights_B: Float[Tensor, " B"] | None = None
) -> Float[Tensor, ""]:
    """Return the softmax cross-entropy with soft targets, mean over images alone.

    The criterion of the baselines, and of DyTox+ and DyTox++ in the public code until 7 May 2022. A target may be one
    class, or smoothed and mixed (rows sum to one).
    """
    terms_B = (at_least_float32(targets_BC) * at_least_float32(logits_BC).log_softmax(dim=-1)).sum(dim=-1)
    return -(terms_B if weights_B is None else weights_B * terms_B).mean()


def own_cross_entropy(
    logits_BC: Float[Tensor, "B C"],
    targets_BC: Float[Tensor, "B C"],
    own: slice,
    weights_B: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    """Return :func:`cross_entropy` among the classes ``own`` of one task, as if there were no others.

    Smoothing mass on classes of other tasks is spread over the task's own: that is smoothing among them, however many
    others there are.
    """
    targets_BO = targets_BC[:, own]
    elsewhere_B1 = 1 - targets_BO.sum(dim=-1, keepdim=True)
    return cross_entropy(logits_BC[:, own], targets_BO + elsewhere_B1 / targets_BO.shape[1], weights_B)


def new_class_cross_entropy(
    logits_BC: Float[Tensor, "B C"],
    targets_BC: Float[Tensor, "B C"],
    num_old: int,
    weights_B: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    """Return :func:`cross_entropy` among the new classes alone, for images that are all of new classes.

    Old classes neither win nor lose by it (LwF without a memory: Li & Hoiem 2016, section 3; PyCIL).
    """
    return cross_entropy(logits_BC[:, num_old:], targets_BC[:, num_old:], weights_B)


def group_old(targets_BC: Float[Tensor, "B C"], num_old: int) -> Float[Tensor, "B C-{num_old}+1"]:
    """Merge the old classes into entry 0, the share of any old class; the new classes follow.

    The targets of DyTox's divergence head (section 3.3) and of DER's auxiliary classifier (Yan et al. 2021, section
    3.3).
    """
    old_B1 = targets_BC[:, :num_old].sum(dim=-1, keepdim=True)
    return torch.cat([old_B1, targets_BC[:, num_old:]], dim=-1)
