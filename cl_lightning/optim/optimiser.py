"""Factory of optimisers from their description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from cl_lightning.core.types import Optimiser


def base_rate(optimiser: Optimiser, images_per_step: int) -> float:
    """Return the learning rate after warm-up: scaled with the batch if there is a reference batch."""
    if optimiser.reference_batch is None:
        return optimiser.lr
    return optimiser.lr * images_per_step / optimiser.reference_batch


FACTOR = "factor"
"""Key in a group of the optimiser: its learning rate over the phase's, where that is not one."""


class Factors(NamedTuple):
    """Factors of a parameter's learning rate and of its weight decay, relative to the optimiser's."""

    rate: float = 1.0
    decay: float = 1.0


def make_optimiser(
    optimiser: Optimiser, parameters: Sequence[nn.Parameter], lr: float, factors: Sequence[Factors] = ()
) -> torch.optim.Optimizer:
    """Make AdamW (betas 0.9, 0.999, eps 1e-8) or SGD with momentum; vectors decay only with ``decay_vectors``.

    ``factors`` are those of each parameter (none: all are one). Parameters of the same factors make two groups,
    matrices and vectors.
    """
    own = list(factors) or [Factors()] * len(parameters)
    groups = []
    for each in dict.fromkeys(own):
        members = [p for p, its in zip(parameters, own, strict=True) if its == each]
        rate = {} if each.rate == 1.0 else {"lr": lr * each.rate, FACTOR: each.rate}
        decay = 0.0 if optimiser.decay_by_norm else each.decay * optimiser.weight_decay  # else added to the gradient
        groups += _groups(optimiser, members, decay, rate)
    match optimiser.name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=optimiser.momentum, fused=True)
        case _:
            raise AssertionError(optimiser.name)


def _groups(
    optimiser: Optimiser, parameters: Sequence[nn.Parameter], decay: float, rate: dict[str, float]
) -> list[dict[str, Any]]:
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": decay, **rate},
        {"params": vectors, "weight_decay": decay if optimiser.decay_vectors else 0.0, **rate},
    ]
    return [group for group in groups if group["params"]]
