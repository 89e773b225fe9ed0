"""Knowledge distillation: losses that hold scores near those of the previous model.

Legend: B batch, C old classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cl_lightning.losses.precision import at_least_float32

Scores = Float[Tensor, "B C"]


def softmax_distillation(student: Scores, teacher: Scores, temperature: float) -> Float[Tensor, ""]:
    """Return T^2 KL(teacher || student) of the old classes' softmax, mean over images *and* classes (DyTox's code).

    The mean over classes is C times smaller than the usual mean over images (:func:`soft_cross_entropy`): it is what
    the published numbers were made with.
    """
    log_student = (at_least_float32(student) / temperature).log_softmax(dim=-1)
    log_teacher = (at_least_float32(teacher) / temperature).log_softmax(dim=-1)
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).mean()


def task_soft_cross_entropy(
    student: Scores, teacher: Scores, sizes: Sequence[int], temperature: float
) -> Float[Tensor, ""]:
    """Return the sum over tasks of :func:`soft_cross_entropy` within the task's classes (Li & Hoiem 2016, equation 2).

    ``sizes`` are the classes of each old task, in order of arrival.
    """
    pairs = zip(student.split(list(sizes), dim=1), teacher.split(list(sizes), dim=1), strict=True)
    return torch.stack([soft_cross_entropy(ours, theirs, temperature) for ours, theirs in pairs]).sum()


def soft_cross_entropy(student: Scores, teacher: Scores, temperature: float) -> Float[Tensor, ""]:
    """Return -sum softmax(teacher / T) log softmax(student / T), mean over images, without T^2.

    Li & Hoiem 2016; WA, equation 4.
    """
    log_student = (at_least_float32(student) / temperature).log_softmax(dim=-1)
    return -((at_least_float32(teacher) / temperature).softmax(dim=-1) * log_student).sum(dim=-1).mean()


def divergence_from(
    student: Scores, targets: Scores, temperature: float, *, rectified: bool = False
) -> Float[Tensor, ""]:
    """Return KL(softmax(targets / T) || softmax(student / T)), sum over classes and mean over images, without T^2.

    ``rectified`` takes each class's summand at 0 where it is negative, as the code of RPS-Net (Rajasegaran et al. 2019)
    does: that is no divergence, and more than it.
    """
    log_student = (at_least_float32(student) / temperature).log_softmax(dim=-1)
    log_target = (at_least_float32(targets) / temperature).log_softmax(dim=-1)
    terms_BC = log_target.exp() * (log_target - log_student)
    return (terms_BC.clamp(min=0) if rectified else terms_BC).sum(dim=-1).mean()
