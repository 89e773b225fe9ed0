"""The part of a configuration that numbers depend on: runs that agree in it may share a cell of a table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.missing_keys import CONFIGURATION, complete

_WITHOUT = (
    "run_dir",
    "if_exists",
    "verbose",
    "evaluate_phases",
    "extends.run",  # folder of the earlier tasks' run; the tasks themselves are in the rest
    "logger",
    "report",
    "data.root",  # folder of the images; their identity is in the scenario's fingerprint
    "data.on_broken",  # skipped files are missing in that fingerprint too
    "data.max_pixels",  # as data.on_broken
    "data.files",  # the images found, and their split, are in the fingerprints too
    "data.evaluate_on",
    "data.test_split",
    "data.sets.root",  # likewise
    "data.sets.on_broken",
    "data.sets.files",
    "data.sets.evaluate_on",
    "data.sets.test_split",
    "data.suggests",  # suggestions have been filled in elsewhere
    "method.encoder",
    "method.origin",  # what is said of a method, which may be put right later
    "method.recipe",
    "recipe.name",  # its switches count
    "recipe.date",
    "recipe.replicas",
    "recipe.precision",
    "batch.evaluation",
    "early_stopping.allow_unfinished_schedule",
    "trainer.accelerator",
    "trainer.checkpoint_minutes",
    "trainer.checkpoint_steps",
    "trainer.cuda_graphs",
    "trainer.deterministic",
    "trainer.devices",
    "trainer.keep_memory",
    "trainer.log_every",
    "trainer.progress",
    "trainer.stop_after_task",  # only the length of the run
    "trainer.strategy",
    "trainer.threads",
    "trainer.workers",
)
"""Keys, and whole groups, of folders and speed, and those that are filled in elsewhere."""

_OWN_SCALE = re.compile(r"method\.\w+\.(epochs_scale|lr_scale)")
"""Scales of a phase: null, as in runs of versions without them, means none."""


def numeric_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rest, flat: ``{"method.temperature": 1.0, ...}``, of a filled-in configuration as plain values (of
    ``config.yaml``).
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
    """Return a list's entries without the keys that numbers do not depend on."""
    if not isinstance(value, list):
        return value
    return [
        {name: item for name, item in entry.items() if f"{key}.{name}" not in _WITHOUT}
        if isinstance(entry, Mapping)
        else entry
        for entry in value
    ]


_STARTING_WEIGHTS = ("method.backbone_file", "model.weights_file")
"""Options that name a file of weights to start from."""


def with_names_of_files(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return :func:`numeric_settings` with files by their names alone: where they lie is a machine's own affair."""
    return {
        key: Path(value).name if key in _STARTING_WEIGHTS and isinstance(value, str) else value
        for key, value in settings.items()
    }


_NOT_IN_CHECKPOINT = (
    "trainer",  # may change from one part of a run to the next; results name each phase's precision
    "extends",  # the folders that were learnt have fingerprints
    "method.backbone_file",  # the weights are in the state
    "model.weights_file",  # likewise
    "model.pretrained",  # likewise; a run that is only read says false where true would download
)
"""Parts of :func:`numeric_settings` that a checkpoint does not store."""


def checkpoint_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a filled-in configuration (plain values) that resuming from a checkpoint requires, as a tree:
    all that its numbers depend on.
    """
    return _pruned(config, "")


def _pruned(node: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    saved: dict[str, Any] = {}
    for name, value in node.items():
        key = f"{prefix}{name}"
        if key in _WITHOUT or key in _NOT_IN_CHECKPOINT:
            continue
        saved[name] = _pruned(value, f"{key}.") if isinstance(value, Mapping) else _counted(key, value)
    return saved


def refuse_edits(saved: Mapping[str, Any] | None, config: Mapping[str, Any], run: str) -> None:
    """Raise ``InvalidFileError`` if ``config`` (plain values, filled in) has changed since a state was saved.

    ``saved`` is :func:`checkpoint_settings` of then, None in files of earlier versions; ``run`` begins the message.
    """
    if saved is None:
        return
    made = numeric_settings(checkpoint_settings(complete(saved, CONFIGURATION)))
    unlike = differences(made, numeric_settings(checkpoint_settings(config)))
    if unlike:
        reason = f"was made with {', '.join(unlike[:3])}, as its config.yaml says now"
        raise InvalidFileError(run, reason, "put back what it said, or start a new run")


def differences(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return ``key=made (not wanted)`` for each value in which two :func:`numeric_settings` differ.

    A key that ``made`` lacks, also in an entry of a list, is newer, with a default that reproduces earlier
    runs. A group that is null in one of the two (``method.mixup=null``) is named without its options.
    """
    unlike = []
    for key in sorted(set(made) | set(wanted)):
        if _under_null(key, made) or _under_null(key, wanted) or (key in _OF_A_MEMORY and _keep_none(made, wanted)):
            continue
        own_scale = _OWN_SCALE.fullmatch(key) is not None
        if key not in made and not own_scale and not any(other.startswith(f"{key}.") for other in made):
            continue
        absent = None if own_scale else _SET
        one, other = made.get(key, absent), wanted.get(key, absent)
        if not _alike(one, other):
            unlike.append(f"{key}={one} (not {other})")
    return unlike


def _keep_none(*given: Mapping[str, Any]) -> bool:
    return all(one.get("memory.budget") == "none" for one in given)


def _alike(made: Any, wanted: Any) -> bool:
    if isinstance(made, list) and isinstance(wanted, list) and len(made) == len(wanted):
        return all(_alike(one, other) for one, other in zip(made, wanted, strict=True))
    if isinstance(made, Mapping) and isinstance(wanted, Mapping):
        return bool(made == {name: value for name, value in wanted.items() if name in made})
    return bool(made == wanted)


_OF_A_MEMORY = ("memory.size", "memory.scope")
"""Keys without effect where there is no memory."""
_SET = "set"
"""Placeholder for a group of options where the other configuration has null."""


def _under_null(key: str, given: Mapping[str, Any]) -> bool:
    parts = key.split(".")
    return any(".".join(parts[:depth]) in given for depth in range(1, len(parts)))
