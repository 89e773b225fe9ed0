"""From a published schedule to a phase of this run."""

from __future__ import annotations

from cl_lightning.config.schedule_scales import BACKBONE, MAIN, epochs_of, rate_of
from cl_lightning.config.schema import Config, PhaseConfig
from cl_lightning.core.types import Mixing, Optimiser, Order, Phase, Sampling, Schedule, Sharpness, View

__all__ = ["BACKBONE", "MAIN", "build_phase"]


def build_phase(
    name: str,
    phase: PhaseConfig,
    config: Config,
    view: View,
    trains: tuple[str, ...] | list[str],
    *,
    mixing: Mixing | None = None,
    sharpness: Sharpness | None = None,
    gradient_clamp: float | None = None,
    gradient_norm: float | None = None,
    augmented: bool = True,
) -> Phase:
    """Return a phase with a paper's schedule, scaled, and the recipe's way of sampling. A model that is frozen is left
    out of what it trains.
    """
    recipe = config.recipe
    if getattr(config.model, "frozen", False):
        trains = tuple(part for part in trains if part != "backbone")
    epochs, lr = epochs_of(name, phase, config), rate_of(phase, config)
    # Copies of an image differ by their augmentation alone.
    order = Order.REPEATED if recipe.repeated_augmentation and augmented else Order.SHUFFLED
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
            lag=recipe.schedule_lag,
        ),
        trains=tuple(trains),
        # The few images that a clean phase is fitted to are balanced, and all count.
        sampling=Sampling(order, recipe.order_ignores_seed, drop_last=augmented),
        mixing=mixing,
        sharpness=sharpness,
        drop_path_in_frozen=recipe.drop_path_in_frozen,
        gradient_clamp=gradient_clamp,
        gradient_norm=gradient_norm,
        augmented=augmented,
    )
