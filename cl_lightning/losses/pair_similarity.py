"""A loss on the directions of embeddings before and after a task, over all pairs of images of a batch.

Gao et al., DKT (CVPR 2023), section 3, with the weights of its public code. It draws an image's embedding towards what
the previous network said of images of the same class, and lets it leave the others, most where one class of the two
is old and the other new.

Legend: B batch, D feature size.
"""

from __future__ import annotations

from jaxtyping import Float, Int64
from torch import Tensor

from cl_lightning.losses.precision import at_least_float32

SAME_CLASS, OLD_AND_NEW, OTHER = 4.0, -4.0, -1.0
"""Weights of a pair: of one class, of an old class and a new one, any other."""
MEANS = ("pairs", "rows")
"""Over what the sum is averaged: over all B^2 pairs, as the public code does; or over the B images alone, as the paper
is said to, which is B times as much and grows with the batch.
"""
_SHORTEST = 1e-8


def pair_similarity(
    student_BD: Float[Tensor, "B D"],
    teacher_BD: Float[Tensor, "B D"],
    labels_B: Int64[Tensor, " B"],
    num_old: int,
    mean: str = "pairs",
) -> Float[Tensor, ""]:
    """Return the mean of w_ij (1 - cos(student_i, teacher_j)) over pairs of images, one with itself included.

    It may be negative. Classes below ``num_old`` are old; ``mean`` is one of :data:`MEANS`. It couples the images of a
    batch.
    """
    cosines_BB = _directions(student_BD) @ _directions(teacher_BD).T
    total = (pair_weights(labels_B, num_old).to(cosines_BB.dtype) * (1 - cosines_BB)).sum()
    images = len(labels_B)
    return total / (images if mean == "rows" else images**2)


def pair_weights(labels_B: Int64[Tensor, " B"], num_old: int) -> Float[Tensor, "B B"]:
    """Return the weight of each pair of images."""
    same_BB = labels_B[:, None] == labels_B
    old_B = labels_B < num_old
    mixed_BB = old_B[:, None] != old_B
    other_BB = ~(same_BB | mixed_BB)
    return SAME_CLASS * same_BB.float() + OLD_AND_NEW * mixed_BB.float() + OTHER * other_BB.float()


def _directions(e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
    e_BD = at_least_float32(e_BD)
    return e_BD / e_BD.norm(dim=-1, keepdim=True).clamp(min=_SHORTEST)
