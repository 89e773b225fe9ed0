"""K-nearest-neighbour-invariant distillation, which preserves the neighbourhood of every image.

DAFormer's abstract (Wang et al., IEEE TMM) says that the old and the new model should keep "the same neighbourhood
relationship of each sample". Its formula is not public, and its code has none: what follows is **our reconstruction**,
in three forms, none of which may be called the paper's.

An image is represented by its embeddings of the old tasks, each of length one, concatenated. The neighbours of an image
are those of its batch, by the teacher's cosine similarity; the student's embeddings are compared on the same
neighbours:

=============== ======================================================================================================
``similarity``  (A) KL(p || q) of p = softmax over the k neighbours of the teacher's similarities / temperature and q,
                the student's; mean over images.
``distance``    (B) squared difference of the distances to the k neighbours, each model's divided by their mean; mean
                over all pairs.
``order``       (C) every neighbour has to be nearer than the (k + 1)-th, by the teacher's own lead or ``margin``,
                whichever is smaller; hinge, mean over all pairs.
=============== ======================================================================================================

All are zero where the student's similarities are the teacher's, so also after any rotation of its embeddings. A batch
has B - 1 candidates: a larger k means all of them (for ``order`` one less, as the last is what the others are compared
with); where nothing is left to compare, the loss is zero.

Legend: B batch, T old tasks, D width, n neighbours of each image, nearest first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_LEAST = 1e-6
"""Squared distance below which two images are one: the gradient of a root is unbounded at zero."""

Embeddings = Float[Tensor, "B T D"]
Similarities = Float[Tensor, "B n"]
"""Cosine similarities of each image and its neighbours."""


@dataclass(frozen=True)
class Neighbours:
    """Options of the comparison."""

    form: str
    """One of :data:`FORMS`."""
    k: int
    """Neighbours of each image, at least 1."""
    temperature: float
    """Temperature of the similarities (``similarity``), > 0."""
    margin: float
    """Largest lead in cosine similarity that is asked for (``order``), >= 0."""


def neighbour_distillation(student_BTD: Embeddings, teacher_BTD: Embeddings, options: Neighbours) -> Float[Tensor, ""]:
    """Measure how far the student has moved the teacher's neighbours of each image; >= 0.

    Args:
        student_BTD: the student's embeddings of the old tasks.
        teacher_BTD: the teacher's, of the same images; it gets no gradient.
        options: the form and its numbers.
    """
    ours_BB, theirs_BB = similarities(student_BTD), similarities(teacher_BTD.detach())
    candidates = len(ours_BB) - 1 - (options.form == "order")
    k = min(options.k, candidates)
    if k < 1:
        return ours_BB.sum() * 0.0
    itself_BB = torch.eye(len(ours_BB), dtype=torch.bool, device=ours_BB.device)
    nearest_Bn = theirs_BB.masked_fill(itself_BB, -torch.inf).topk(min(k + 1, len(ours_BB) - 1), dim=1).indices
    return FORMS[options.form](ours_BB.gather(1, nearest_Bn), theirs_BB.gather(1, nearest_Bn), k, options)


def similarities(e_BTD: Embeddings) -> Float[Tensor, "B B"]:
    """Return the cosine of the angle between any two images, each its concatenated unit embeddings; float32."""
    unit_BTD = F.normalize(e_BTD.float(), dim=-1)
    with torch.autocast(e_BTD.device.type, enabled=False):  # differences of cosines near one are what is looked at
        return unit_BTD.flatten(1) @ unit_BTD.flatten(1).T / e_BTD.shape[1]


def _similarity(ours_Bn: Similarities, theirs_Bn: Similarities, k: int, options: Neighbours) -> Float[Tensor, ""]:
    ours, theirs = ((s_Bn[:, :k] / options.temperature).log_softmax(dim=1) for s_Bn in (ours_Bn, theirs_Bn))
    return F.kl_div(ours, theirs, log_target=True, reduction="batchmean")


def _distance(ours_Bn: Similarities, theirs_Bn: Similarities, k: int, options: Neighbours) -> Float[Tensor, ""]:
    ours, theirs = ((2 - 2 * s_Bn[:, :k]).clamp(min=_LEAST).sqrt() for s_Bn in (ours_Bn, theirs_Bn))
    return (ours / ours.mean() - theirs / theirs.mean()).square().mean()


def _order(ours_Bn: Similarities, theirs_Bn: Similarities, k: int, options: Neighbours) -> Float[Tensor, ""]:
    ours, theirs = (s_Bn[:, :k] - s_Bn[:, k : k + 1] for s_Bn in (ours_Bn, theirs_Bn))
    return (theirs.clamp(max=options.margin) - ours).clamp(min=0).mean()


FORMS: dict[str, Callable[[Tensor, Tensor, int, Neighbours], Tensor]] = {
    "similarity": _similarity,
    "distance": _distance,
    "order": _order,
}
"""Name -> loss of the similarities to the teacher's nearest, in the student and in the teacher."""
