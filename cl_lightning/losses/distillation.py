"""Keeping the answers of the model of before: knowledge distillation on scores.

Legend: B batch, C_old old classes.
"""

from __future__ import annotations

from torch import Tensor


def softmax_distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) over the old classes' softmax, times T^2, mean over images *and* classes (DyTox's code).

    Both arguments are (B, C_old). The mean over classes is C_old times smaller than the usual mean over images
    (:func:`soft_cross_entropy`): it is what the published numbers were made with.
    """
    log_student = (student.float() / temperature).log_softmax(dim=-1)
    log_teacher = (teacher.float() / temperature).log_softmax(dim=-1)
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).mean()


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """-sum softmax(teacher / T) log softmax(student / T), mean over images, without T^2 (Li & Hoiem 2016; WA, equation
    4).
    """
    log_student = (student.float() / temperature).log_softmax(dim=-1)
    return -((teacher.float() / temperature).softmax(dim=-1) * log_student).sum(dim=-1).mean()
