"""Epochs and learning rates of a phase: scaled as the data suggest, unless they were typed.

``epochs_scale``, ``balanced_epochs_scale`` and ``lr_scale`` shorten the published schedules, which are what nobody has
typed. Who types ``method.main.epochs=5`` wants five epochs: what the *data* suggest is then not meant for this phase. A
scale that somebody has set - on the command line, in an experiment, by ``debug=`` - is meant for all phases.

What comes of it is kept in the phase: ``epochs_scale`` and ``lr_scale`` of its own, null where the run's apply.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from typing import Any, TypeVar

from cl_lightning.config.schema import Config, MethodConfig, PhaseConfig

MAIN = "main"
"""Every method's first phase in a task."""
BACKBONE = "backbone"
"""What takes its place in the first task where that trains the transformer that later tasks start from."""
PHASES = (BACKBONE, MAIN, "finetuning", "classifier")
"""All that a method may have, as they follow one another."""
OWN_SCALES = ("epochs_scale", "lr_scale")
"""Of a phase; null where the run's apply."""
_OF_THE_RUN = {BACKBONE: "epochs_scale", MAIN: "epochs_scale"}

Method = TypeVar("Method", bound=MethodConfig)


def scale_name(phase: str) -> str:
    """Which of the run's scales a phase's epochs are times: phases after the main one look at balanced, small data."""
    return _OF_THE_RUN.get(phase, "balanced_epochs_scale")


def epochs_of(name: str, phase: PhaseConfig, config: Config) -> int:
    """A phase's epochs in this run, at least one."""
    scale = phase.epochs_scale if phase.epochs_scale is not None else getattr(config, scale_name(name))
    return scaled(phase.epochs, scale)


def rate_of(phase: PhaseConfig, config: Config) -> float:
    """A phase's base learning rate in this run."""
    return phase.lr * lr_scale_of(phase, config)


def lr_scale_of(phase: PhaseConfig, config: Config) -> float:
    """Return the factor of a phase's learning rate."""
    return phase.lr_scale if phase.lr_scale is not None else config.lr_scale


def scaled(epochs: int, scale: float) -> int:
    """``epochs`` times ``scale``, rounded up, at least one."""
    return max(1, math.ceil(epochs * scale - 1e-9))


def phases_of(method: MethodConfig) -> dict[str, PhaseConfig]:
    """The phases that a method has, by name."""
    found = {name: getattr(method, name, None) for name in PHASES}
    return {name: phase for name, phase in found.items() if phase is not None}


def trained_phases(config: Config) -> dict[str, PhaseConfig]:
    """The phases that a run trains, by name: balanced ones look at a memory."""
    skipped = {"finetuning", "classifier"} if config.memory.budget == "none" else set()
    if not getattr(config.method, "backbone_task", False):
        skipped.add(BACKBONE)
    return {name: phase for name, phase in phases_of(config.method).items() if name not in skipped}


def as_typed(method: Method, typed: Collection[str], suggested: dict[str, float]) -> Method:
    """``method`` with the phases of which something was typed taken out of what the data suggest.

    Args:
        method: as composed, or as it was saved.
        typed: the options that were set, ``method.main.epochs``.
        suggested: the scales that the data suggest (``epochs_scale``, ``balanced_epochs_scale``, ``lr_scale``), without
            those that somebody has set.
    """
    changed: dict[str, Any] = {}
    for name, phase in phases_of(method).items():
        own = {key.removeprefix(f"method.{name}.") for key in typed if key.startswith(f"method.{name}.")}
        changed[name] = _as_typed(name, phase, own, suggested)
    return dataclasses.replace(method, **changed)


def scaled_anew(method: Method, typed: Collection[str]) -> Method:
    """``method`` with its phases back under the scales of the run that were typed, which are meant for all of them."""
    changed: dict[str, Any] = {}
    for name, phase in phases_of(method).items():
        anew = {"epochs_scale": scale_name(name), "lr_scale": "lr_scale"}
        left: dict[str, Any] = {
            own: None for own, of_all in anew.items() if of_all in typed and f"method.{name}.{own}" not in typed
        }
        changed[name] = dataclasses.replace(phase, **left)
    return dataclasses.replace(method, **changed)


def _as_typed(name: str, phase: PhaseConfig, typed: Collection[str], suggested: dict[str, float]) -> PhaseConfig:
    """Of epochs and warm-up, which are counted in them, what was not typed stays what it would have been."""
    scale = suggested.get(scale_name(name))
    if scale is not None and phase.epochs_scale is None and {"epochs", "warmup_epochs"} & set(typed):
        epochs = phase.epochs if "epochs" in typed else scaled(phase.epochs, scale)
        warmup = phase.warmup_epochs if "warmup_epochs" in typed else phase.warmup_epochs * scale
        phase = dataclasses.replace(phase, epochs=epochs, warmup_epochs=warmup, epochs_scale=1.0)
    if "lr_scale" in suggested and phase.lr_scale is None and "lr" in typed:
        phase = dataclasses.replace(phase, lr_scale=1.0)
    return phase
