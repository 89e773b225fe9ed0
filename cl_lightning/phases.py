"""From a published schedule to a phase of this run."""

from __future__ import annotations

import math

from cl_lightning.config.schema import Config, PhaseConfig
from cl_lightning.types import Mixing, Optimiser, Order, Phase, Sampling, Schedule, Sharpness, View

MAIN = "main"
"""Every method's first phase in a task."""
BACKBONE = "backbone"
"""What takes its place in the first task where that trains the transformer that later tasks start from."""


def scaled_epochs(phase: str, epochs: int, config: Config) -> int:
    """A phase's epochs in this run, at least one; phases after the main one look at balanced, small data."""
    scale = config.epochs_scale if phase in (MAIN, BACKBONE) else config.balanced_epochs_scale
    return max(1, math.ceil(epochs * (scale or 1.0) - 1e-9))


def build_phase(
    name: str,
    phase: PhaseConfig,
    config: Config,
    view: View,
    trains: tuple[str, ...] | list[str],
    *,
    mixing: Mixing | None = None,
    sharpness: Sharpness | None = None,
) -> Phase:
    """A paper's schedule, scaled, with the recipe's way of sampling."""
    recipe = config.recipe
    epochs = scaled_epochs(name, phase.epochs, config)
    lr = phase.lr * (config.lr_scale or 1.0)
    order = Order.REPEATED if recipe.repeated_augmentation else Order.SHUFFLED
    return Phase(
        name=name,
        view=view,
        epochs=epochs,
        optimiser=Optimiser(
            name=phase.optimiser,
            lr=lr,
            weight_decay=phase.weight_decay,
            decay_vectors=phase.decay_vectors,
            momentum=phase.momentum,
            reference_batch=phase.reference_batch if recipe.lr_follows_batch else None,
        ),
        schedule=Schedule(
            name=phase.schedule,
            warmup_epochs=round(phase.warmup_epochs * epochs / phase.epochs),
            warmup_lr=min(phase.warmup_lr, lr),  # absolute, but a small lr_scale must turn no warm-up around
            min_lr=min(phase.min_lr, lr),
            milestones=tuple(phase.milestones),
            gamma=phase.gamma,
            lag=bool(recipe.schedule_lag),
        ),
        trains=tuple(trains),
        sampling=Sampling(order, bool(recipe.order_ignores_seed)),
        mixing=mixing,
        sharpness=sharpness,
        drop_path_in_frozen=bool(recipe.drop_path_in_frozen),
    )
