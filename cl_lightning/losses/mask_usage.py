"""The capacity of a masked network that a task takes (Serra et al., HAT, ICML 2018, equation 5).

Legend: U units of all masked layers.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

_LEAST = 1e-12
"""Smallest divisor: older tasks may use all units, and then there is nothing to take."""


def mask_usage(masks_U: Float[Tensor, " U"], used_U: Float[Tensor, " U"]) -> Float[Tensor, ""]:
    """Return sum a (1 - used) / sum (1 - used), in [0, 1]: the mean mask of the units that older tasks leave.

    Args:
        masks_U: the task's masks a, in [0, 1].
        used_U: the largest mask of all older tasks; zeros in the first task.
    """
    free_U = 1 - used_U
    return (masks_U * free_U).sum() / free_U.sum().clamp_min(_LEAST)
