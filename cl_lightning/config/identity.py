"""Which part of a configuration a number depends on: runs that agree in it may stand in one cell of a table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.missing_keys import CONFIGURATION, complete

_WITHOUT = (
    "run_dir",
    "if_exists",
    "verbose",
    "evaluate_phases",
    "extends.run",  # where the tasks before were learnt; which those are is in the rest
    "logger",
    "report",
    "data.root",  # where the images are; which they are is in the scenario's fingerprint
    "data.on_broken",  # what was left out is missing in that fingerprint too
    "data.max_pixels",  # as data.on_broken
    "data.files",  # which images were found, and on which side they are, is in the fingerprints too
    "data.evaluate_on",
    "data.test_split",
    "data.sets.root",  # likewise
    "data.sets.on_broken",
    "data.sets.files",
    "data.sets.evaluate_on",
    "data.sets.test_split",
    "data.suggests",  # what it suggested has been filled in elsewhere
    "method.encoder",
    "method.recipe",
    "recipe.name",  # its switches count
    "recipe.date",
    "recipe.replicas",
    "recipe.precision",
    "batch.evaluation",
    "trainer.accelerator",
    "trainer.checkpoint_minutes",
    "trainer.checkpoint_steps",
    "trainer.cuda_graphs",
    "trainer.deterministic",
    "trainer.devices",
    "trainer.keep_memory",
    "trainer.log_every",
    "trainer.progress",
    "trainer.stop_after_task",  # how much of the run there is
    "trainer.strategy",
    "trainer.threads",
    "trainer.workers",
)
"""Keys, and whole groups, that say where and how fast a run is made, or what has become another key's value."""

_OWN_SCALE = re.compile(r"method\.\w+\.(epochs_scale|lr_scale)")
"""Of a phase: null says that it has none, as in runs from before there was any."""


def numeric_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The rest, flat: ``{"method.temperature": 1.0, ...}``, of a filled-in configuration as plain values (what a run's
    ``config.yaml`` holds).
    """
    return dict(_leaves(config))


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        key = f"{prefix}{name}"
        if key in _WITHOUT or (value is None and _OWN_SCALE.fullmatch(key)):
            continue
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{key}.")
        else:
            yield key, _counted(key, value)


def _counted(key: str, value: Any) -> Any:
    """A list's entries without what does not count in them."""
    if not isinstance(value, list):
        return value
    return [
        {name: item for name, item in entry.items() if f"{key}.{name}" not in _WITHOUT}
        if isinstance(entry, Mapping)
        else entry
        for entry in value
    ]


_BESIDE_A_STATE = (
    "trainer",  # may change from one part of a run to the next; results name each phase's precision
    "extends",  # the folders that were learnt have fingerprints
    "method.backbone_file",  # the weights are in the state
)
"""What a checkpoint does not keep of :func:`science`."""


def kept_with_a_state(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a filled-in configuration (plain values) that whoever goes on with a checkpoint must have, as a tree:
    all that its numbers depend on.
    """
    return _pruned(config, "")


def _pruned(node: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for name, value in node.items():
        key = f"{prefix}{name}"
        if key in _WITHOUT or key in _BESIDE_A_STATE:
            continue
        kept[name] = _pruned(value, f"{key}.") if isinstance(value, Mapping) else _counted(key, value)
    return kept


def refuse_edits(kept: Mapping[str, Any] | None, config: Mapping[str, Any], run: str) -> None:
    """Raise ``InvalidFileError`` if ``config`` (plain values, filled in) is not what it was when a state was kept.

    ``kept`` is what :func:`kept_with_a_state` gave then, None in files of earlier versions; ``run`` stands first in the
    line.
    """
    if kept is None:
        return
    made = numeric_settings(kept_with_a_state(complete(kept, CONFIGURATION)))
    unlike = differences(made, numeric_settings(kept_with_a_state(config)))
    if unlike:
        reason = f"was made with {', '.join(unlike[:3])}, as its config.yaml says now"
        raise InvalidFileError(run, reason, "put back what it said, or start a new run")


def differences(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """``key=made (not wanted)`` for each value in which two :func:`science` differ.

    A key that ``made`` lacks, also in an entry of a list, came into the program later, with a default that left earlier
    runs as they were. A group that one of the two leaves out (``method.mixup=null``) is told by the group's name alone.
    """
    found = []
    for key in sorted(set(made) | set(wanted)):
        if _under_null(key, made) or _under_null(key, wanted) or (key in _OF_A_MEMORY and _keep_none(made, wanted)):
            continue
        own_scale = _OWN_SCALE.fullmatch(key) is not None
        if key not in made and not own_scale and not any(other.startswith(f"{key}.") for other in made):
            continue
        absent = None if own_scale else _SET
        one, other = made.get(key, absent), wanted.get(key, absent)
        if not _alike(one, other):
            found.append(f"{key}={one} (not {other})")
    return found


def _keep_none(*given: Mapping[str, Any]) -> bool:
    return all(one.get("memory.budget") == "none" for one in given)


def _alike(made: Any, wanted: Any) -> bool:
    if isinstance(made, list) and isinstance(wanted, list) and len(made) == len(wanted):
        return all(_alike(one, other) for one, other in zip(made, wanted, strict=True))
    if isinstance(made, Mapping) and isinstance(wanted, Mapping):
        return bool(made == {name: value for name, value in wanted.items() if name in made})
    return bool(made == wanted)


_OF_A_MEMORY = ("memory.size", "memory.scope")
"""What is of no account where nothing is remembered."""
_SET = "set"
"""Stands for a group that is there, where the other configuration has null."""


def _under_null(key: str, given: Mapping[str, Any]) -> bool:
    parts = key.split(".")
    return any(".".join(parts[:depth]) in given for depth in range(1, len(parts)))
