"""Knowledge distillation: losses that hold scores near those of the previous model.

Legend: B batch, C old classes.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

Scores = Float[Tensor, "B C"]


def softmax_distillation(student: Scores, teacher: Scores, temperature: float) -> Float[Tensor, ""]:
    """Return T^2 KL(teacher || student) of the old classes' softmax, mean over images *and* classes (DyTox's code).

    The mean over classes is C times smaller than the usual mean over images (:func:`soft_cross_entropy`): it is what
    the published numbers were made with.
    """
    log_student = (student.float() / temperature).log_softmax(dim=-1)
    log_teacher = (teacher.float() / temperature).log_softmax(dim=-1)
    return temperature**2 * (log_teacher.exp() * (log_teacher - log_student)).mean()


def soft_cross_entropy(student: Scores, teacher: Scores, temperature: float) -> Float[Tensor, ""]:
    """Return -sum softmax(teacher / T) log softmax(student / T), mean over images, without T^2.

    Li & Hoiem 2016; WA, equation 4.
    """
    log_student = (student.float() / temperature).log_softmax(dim=-1)
    return -((teacher.float() / temperature).softmax(dim=-1) * log_student).sum(dim=-1).mean()
