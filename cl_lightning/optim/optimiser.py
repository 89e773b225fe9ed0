"""Optimisers from their description."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from cl_lightning.types import Optimiser


def base_rate(optimiser: Optimiser, images_per_step: int) -> float:
    """The learning rate after warm-up: scaled with the batch where the description says so."""
    if optimiser.reference_batch is None:
        return optimiser.lr
    return optimiser.lr * images_per_step / optimiser.reference_batch


def make_optimiser(optimiser: Optimiser, parameters: Sequence[nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """AdamW (betas 0.9, 0.999, eps 1e-8) or SGD with momentum; vectors get no weight decay unless ``decay_vectors``."""
    matrices = [p for p in parameters if p.ndim > 1]
    vectors = [p for p in parameters if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": optimiser.weight_decay},
        {"params": vectors, "weight_decay": optimiser.weight_decay if optimiser.decay_vectors else 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    match optimiser.name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=optimiser.momentum, fused=True)
        case _:
            raise AssertionError(optimiser.name)
