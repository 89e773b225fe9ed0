"""Epochs and learning rates of a phase: scaled as the data suggest, unless they were typed.

``epochs_scale``, ``balanced_epochs_scale`` and ``lr_scale`` shorten the published schedules, which are what nobody has
typed. Who types ``method.main.epochs=5`` wants five epochs: the *data's* suggestion does not apply to it then. A
scale that was set - on the command line, in an experiment, by ``debug=`` - applies to all phases.

The result is stored in the phase: ``epochs_scale`` and ``lr_scale`` of its own, null where the run's apply.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

from cl_lightning.config.registry import SCHEMAS
from cl_lightning.config.schema import Config, MethodConfig, PhaseConfig
from cl_lightning.config.schema.open_options import schema_of
from cl_lightning.config.schema.phase_role import PhaseRole, role_of

MAIN = "main"
"""Name of every method's first phase in a task."""
BACKBONE = "backbone"
"""Name of the phase that replaces it where the first task trains the transformer that later tasks start from."""
OWN_SCALES = ("epochs_scale", "lr_scale")
"""Scales of a phase; null where the run's apply."""

Method = TypeVar("Method", bound=MethodConfig)


@cache
def phases_in(schema: type[Any]) -> dict[str, PhaseRole]:
    """Return the phases that a method of this kind may have, in the order in which they follow one another: its fields
    that hold a ``PhaseConfig``. What takes the main one's place in the first task comes first.
    """
    hints = get_type_hints(schema)
    found = {
        field.name: role_of(field)
        for field in dataclasses.fields(schema)
        if PhaseConfig in (hints[field.name], *get_args(hints[field.name]))
    }
    return _in_order(found)


def all_phases() -> dict[str, PhaseRole]:
    """Return those of all methods."""
    found: dict[str, PhaseRole] = {}
    for schema in SCHEMAS["method"].values():
        for name, use in phases_in(schema).items():
            found.setdefault(name, use)
    return _in_order(found)


def _in_order(phases: dict[str, PhaseRole]) -> dict[str, PhaseRole]:
    return dict(sorted(phases.items(), key=lambda phase: phase[1].first_task_if is None))


def uses_of(method: MethodConfig) -> dict[str, PhaseRole]:
    """Return :func:`phases_in` of the method's kind."""
    return phases_in(schema_of(type(method)))


def scale_name(method: MethodConfig, phase: str) -> str:
    """Return which of the run's scales a phase's epochs are times."""
    return uses_of(method)[phase].scale


def epochs_of(name: str, phase: PhaseConfig, config: Config) -> int:
    """Return a phase's epochs in this run, at least one."""
    scale = phase.epochs_scale if phase.epochs_scale is not None else getattr(config, scale_name(config.method, name))
    return scaled(phase.epochs, scale)


def rate_of(phase: PhaseConfig, config: Config) -> float:
    """Return a phase's base learning rate in this run."""
    return phase.lr * lr_scale_of(phase, config)


def lr_scale_of(phase: PhaseConfig, config: Config) -> float:
    """Return the factor of a phase's learning rate."""
    return phase.lr_scale if phase.lr_scale is not None else config.lr_scale


def scaled(epochs: int, scale: float) -> int:
    """Return ``epochs`` times ``scale``, rounded up, at least one."""
    return max(1, math.ceil(epochs * scale - 1e-9))


def phases_of(method: MethodConfig) -> dict[str, PhaseConfig]:
    """Return the phases that a method has, by name."""
    found = {name: getattr(method, name) for name in uses_of(method)}
    return {name: phase for name, phase in found.items() if phase is not None}


def trained_phases(config: Config) -> dict[str, PhaseConfig]:
    """Return the phases that a run trains, by name: balanced ones need a memory."""
    uses = uses_of(config.method)
    return {name: phase for name, phase in phases_of(config.method).items() if _is_trained(uses[name], config)}


def trains_balanced(config: Config) -> bool:
    """Return whether a phase that looks at balanced data is trained."""
    return any(uses_of(config.method)[name].balanced for name in trained_phases(config))


def _is_trained(use: PhaseRole, config: Config) -> bool:
    if use.balanced and config.memory.budget == "none":
        return False
    switches = [option for option in (use.first_task_if, use.only_if) if option is not None]
    return all(getattr(config.method, option) for option in switches)


def as_typed(method: Method, typed: Collection[str], suggested: dict[str, float]) -> Method:
    """Return ``method`` with the phases of which something was typed exempt from the data's suggestions.

    Args:
        method: as composed, or as it was saved.
        typed: the options that were set, ``method.main.epochs``.
        suggested: the scales that the data suggest (``epochs_scale``, ``balanced_epochs_scale``, ``lr_scale``), without
            those that were set.
    """
    changed: dict[str, Any] = {}
    for name, phase in phases_of(method).items():
        own = {key.removeprefix(f"method.{name}.") for key in typed if key.startswith(f"method.{name}.")}
        changed[name] = _as_typed(phase, own, suggested, suggested.get(scale_name(method, name)))
    return dataclasses.replace(method, **changed)


def scaled_anew(method: Method, typed: Collection[str]) -> Method:
    """Return ``method`` with its phases under the scales of the run that were typed, which apply to all of them."""
    changed: dict[str, Any] = {}
    for name, phase in phases_of(method).items():
        anew = {"epochs_scale": scale_name(method, name), "lr_scale": "lr_scale"}
        left: dict[str, Any] = {
            own: None for own, of_all in anew.items() if of_all in typed and f"method.{name}.{own}" not in typed
        }
        changed[name] = dataclasses.replace(phase, **left)
    return dataclasses.replace(method, **changed)


def _as_typed(
    phase: PhaseConfig, typed: Collection[str], suggested: dict[str, float], scale: float | None
) -> PhaseConfig:
    """Return the phase with what was typed of epochs and warm-up as typed, and the rest as suggested."""
    if scale is not None and phase.epochs_scale is None and {"epochs", "warmup_epochs"} & set(typed):
        epochs = phase.epochs if "epochs" in typed else scaled(phase.epochs, scale)
        warmup = phase.warmup_epochs if "warmup_epochs" in typed else phase.warmup_epochs * scale
        phase = dataclasses.replace(phase, epochs=epochs, warmup_epochs=warmup, epochs_scale=1.0)
    if "lr_scale" in suggested and phase.lr_scale is None and "lr" in typed:
        phase = dataclasses.replace(phase, lr_scale=1.0)
    return phase
