"""Losses on cosines: features that keep their direction, and a margin between old classes and new ones that are alike.

Hou, Pan, Loy, Wang & Lin, Learning a unified classifier incrementally via rebalancing (UCIR, CVPR 2019), sections 3.3
and 3.4.

Legend: B batch, C classes, D feature size.
"""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.losses.precision import at_least_float32


def less_forget(student_BD: Float[Tensor, "B D"], teacher_BD: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Return 1 - cos(student, teacher), mean over images, in [0, 2] (equation 6)."""
    student_BD, teacher_BD = (F.normalize(at_least_float32(each), dim=-1) for each in (student_BD, teacher_BD))
    return (1 - (student_BD * teacher_BD).sum(dim=-1)).mean()


def margin_ranking(
    cosines_BC: Float[Tensor, "B C"],
    labels_B: Int64[Tensor, " B"],
    num_old: int,
    negatives: int,
    margin: float,
    weights_B: Float[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    """Return max(0, margin - cos(label) + cos(k)) for images of old classes and the new classes k that they resemble
    most (equation 8); the mean over those images and classes, 0 where the batch has no image of an old class.

    Args:
        cosines_BC: cosines with each class's row, before the scale.
        labels_B: classes, of which those below ``num_old`` are old.
        num_old: number of old classes, below C.
        negatives: number of new classes that each image is compared with, at most all of them.
        margin: lead that the right class shall have, in [0, 2].
        weights_B: weights of the images (``data.balance=loss``); None: 1.

    It couples the images of a batch: the mean is over those of old classes.
    """
    cosines_BC = at_least_float32(cosines_BC)
    count = min(negatives, cosines_BC.shape[1] - num_old)
    right_B1 = cosines_BC.gather(1, labels_B[:, None])
    rivals_Bk = cosines_BC[:, num_old:].topk(count, dim=1).values
    hinge_B = (margin - right_B1 + rivals_Bk).clamp(min=0).sum(dim=1)
    hinge_B = hinge_B if weights_B is None else weights_B * hinge_B
    old_B = (labels_B < num_old).to(hinge_B.dtype)  # a mask, no index: a step that is replayed cannot change shapes
    return (hinge_B * old_B).sum() / (count * old_B.sum()).clamp(min=1)


def imprinted_rows(means_CD: Float[Tensor, "C D"], old_rows: Float[Tensor, "old D"]) -> Float[Tensor, "C D"]:
    """Return first rows of new classes: the direction of the mean of their unit features, and the mean length of the
    old rows (Qi, Brown & Lowe, CVPR 2018, as in UCIR's code).
    """
    return F.normalize(means_CD, dim=-1) * old_rows.norm(dim=-1).mean()
