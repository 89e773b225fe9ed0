"""Read-outs for methods that are published with the task of a test image given: a task is inferred, then its classes.

A network with a head for each task is asked for all of them. The classes of the inferred task are scored above all
others, so that one number a class is left, as for every other read-out.

Legend: B batch, C classes seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_FAR = 50.0


def of_inferred(
    linear_BC: Float[Tensor, "B C"], sizes: Sequence[int], task_B: Int64[Tensor, " B"]
) -> Float[Tensor, "B C"]:
    """Return log-probabilities within each task; those of other tasks are moved so far below all of the inferred one's
    that a softmax of all is that of the inferred task.

    Args:
        linear_BC: scores of all heads side by side.
        sizes: number of classes of each task.
        task_B: the inferred task of each image.
    """
    within_BC = torch.cat([part.float().log_softmax(dim=-1) for part in linear_BC.split(list(sizes), dim=1)], dim=1)
    task_C = torch.cat([torch.full((size,), task, device=linear_BC.device) for task, size in enumerate(sizes)])
    own_BC = task_C == task_B[:, None]
    lowest_B1 = within_BC.masked_fill(~own_BC, torch.inf).amin(dim=1, keepdim=True)
    return torch.where(own_BC, within_BC, within_BC + (lowest_B1 - _FAR))


def surest(linear_BC: Float[Tensor, "B C"], sizes: Sequence[int], learnt: int) -> Int64[Tensor, " B"]:
    """Infer tasks by entropy / log(classes) of each task's own answer, among the first ``learnt`` tasks (at least one);
    a task of a single class counts as 1, the most uncertain.
    """
    unsure = []
    for part in linear_BC.split(list(sizes), dim=1)[: max(1, learnt)]:
        p = part.float().softmax(dim=-1)
        entropy_B = -(p * p.clamp_min(1e-30).log()).sum(dim=-1)
        unsure.append(entropy_B / math.log(part.shape[1]) if part.shape[1] > 1 else torch.ones_like(entropy_B))
    return torch.stack(unsure).argmin(dim=0)
