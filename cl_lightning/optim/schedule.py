"""The learning rate of an epoch as a pure function.

Warm-up is linear; the cosine is evaluated at the epoch itself (it does not start after the warm-up), as in timm's
scheduler that DyTox used.
"""

from __future__ import annotations

import math

from cl_lightning.core.types import Schedule


def learning_rate(schedule: Schedule, base: float, epoch: int, epochs: int) -> float:
    """Return the rate for ``epoch`` (from 0) of ``epochs``; ``base`` is the rate after warm-up.

    With ``schedule.lag`` epoch e uses the rate of e - 1, and epoch 0 that of epoch 0: the published runs stepped the
    schedule after each epoch.
    """
    at = max(epoch - 1, 0) if schedule.lag else epoch
    if at < schedule.warmup_epochs:
        return schedule.warmup_lr + at * (base - schedule.warmup_lr) / schedule.warmup_epochs
    match schedule.name:
        case "constant":
            return base
        case "cosine":
            low = min(schedule.min_lr, base)
            return low + 0.5 * (base - low) * (1 + math.cos(math.pi * at / epochs))
        case "steps":
            passed = sum(at >= max(1, round(share * epochs)) for share in schedule.milestones)
            return base * schedule.gamma**passed
        case _:
            raise AssertionError(schedule.name)
