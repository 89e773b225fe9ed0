"""Early stopping: the phases that it may end, what it does to the evaluation, and what does not go with it."""

from __future__ import annotations

from cl_lightning.config.schedule_scales import trained_phases, uses_of
from cl_lightning.config.schema import Config, HATConfig, MEATConfig, PhaseConfig
from cl_lightning.core.errors import UserError


def stops_early(config: Config) -> bool:
    """Return whether phases may end early."""
    return config.early_stopping.patience is not None


def evaluates_share(config: Config) -> bool:
    """Return whether the images that ``data.validation`` sets aside are evaluated on, in place of the test images.

    They are, unless they decide when to stop: a number on images that chose the network is too good.
    ``evaluate_on=val`` asks for it all the same, as a search must, which may not see the test images.
    """
    return config.data.validation > 0 and (not stops_early(config) or config.data.evaluate_on == "val")


def stoppable_phases(config: Config) -> dict[str, PhaseConfig]:
    """Return the phases that may end early, by name: those that are trained on all images of a task."""
    uses = uses_of(config.method)
    return {name: phase for name, phase in trained_phases(config).items() if not uses[name].balanced}


def early_stopping_text(config: Config) -> str:
    """Return the rule as a text: ``accuracy, patience 5``; ``none`` without early stopping."""
    stopping = config.early_stopping
    if stopping.patience is None:
        return "none"
    delta = f", min_delta {stopping.min_delta:g}" if stopping.min_delta else ""
    return f"{stopping.monitor}, patience {stopping.patience}{delta}"


def check_early_stopping(config: Config) -> None:
    """Raise ``UserError`` if there is nothing to judge by, or a schedule that would be cut off."""
    if not stops_early(config):
        return
    given = f"early_stopping.patience={config.early_stopping.patience}"
    if not stoppable_phases(config):
        raise UserError(f"{given} has no phase to end, method={config.method.name} trains none here: leave it out")
    cut = [] if config.early_stopping.allow_unfinished_schedule else _cut_off(config)
    constant = [f"method.{name}.schedule=constant" for name in cut]
    if not config.data.validation:
        words = " ".join(["data.validation=0.1", *constant])
        rate = " and keeps the learning rate constant, as a falling one would be cut off" if cut else ""
        raise UserError(
            f"{given} needs images that are not trained on, to judge by: type {words} as well, which sets "
            f"a tenth of each class's training images aside{rate}"
        )
    if isinstance(config.method, MEATConfig | HATConfig) and "linear" not in config.method.readouts:
        raise UserError(
            f"{given} reads the scores within a phase, which the read-outs {list(config.method.readouts)} do not have: "
            "type 'method.readouts=[...,linear]'"
        )
    if cut:
        schedules = " and ".join(f"method.{name}.schedule={getattr(config.method, name).schedule}" for name in cut)
        raise UserError(
            f"{given} would end {schedules} before the rate has come down: type {' '.join(constant)}, or "
            "early_stopping.allow_unfinished_schedule=true to do so all the same"
        )


def _cut_off(config: Config) -> list[str]:
    """Return the names of the phases whose learning rate would not come down to its end."""
    return [name for name, phase in stoppable_phases(config).items() if _needs_its_end(phase)]


def _needs_its_end(phase: PhaseConfig) -> bool:
    return phase.schedule == "cosine" or (phase.schedule == "steps" and bool(phase.milestones))
