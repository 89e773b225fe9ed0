"""The file of a recorded run of a published implementation (``tests/golden/README.md`` lists the entries)."""

from __future__ import annotations

import json
from typing import Any

from torch import Tensor

from cl_lightning.core.errors import InvalidFileError
from scripts.reference.vectors import VectorFile

SETTINGS = "settings.json"
PHASES = ("main", "finetuning")
TERMS = ("classification", "distillation", "divergence")
"""Columns of the entries ``losses``; not a number where a step has no such term."""


class RecordedRun:
    """One file, read."""

    def __init__(self, file: VectorFile) -> None:
        """Read the settings of ``file``.

        Raises:
            InvalidFileError: settings that are no JSON, or lack the words of the command line or the number of tasks.
        """
        self.file = file
        self.settings = _settings(file)
        self.name = str(self.settings.get("run", "?"))
        self.tasks = int(self.settings["tasks"])
        self.words: tuple[str, ...] = tuple(self.settings["ours"])

    def words_with(self, changed: tuple[str, ...]) -> list[str]:
        """Return the overrides of our command line, ``changed`` in place of those for the same keys."""
        keys = {word.partition("=")[0] for word in changed}
        return [word for word in self.words if word.partition("=")[0] not in keys] + list(changed)

    def start(self, task: int) -> dict[str, Tensor]:
        """Return the weights new before the main phase of ``task``, by name."""
        return self.file.folder(f"task{task}/start/")

    def ratios(self, task: int, phase: str, step: int) -> list[float]:
        """Return MixUp's ratio of each process in a step; empty where none is recorded."""
        entry = f"task{task}/{phase}/ratios"
        if entry not in self.file or step >= len(self.file[entry]):
            return []
        return [float(ratio) for ratio in self.file[entry][step].flatten()]


def is_recorded_run(file: VectorFile) -> bool:
    """Return whether ``file`` is one."""
    return SETTINGS in file


def describes(entry: str) -> bool:
    """Return whether an entry is put in, or describes others, so that it is not compared itself."""
    return entry in (SETTINGS, "probe_rows") or "/start/" in entry or entry.rpartition("/")[2] in _DESCRIBING


_DESCRIBING = ("ratios", "turns", "smallest_gap", "same_in_float64", "smallest_margin", "parameters")


def _settings(file: VectorFile) -> dict[str, Any]:
    try:
        settings = json.loads(file.texts(SETTINGS)[0])
    except ValueError as error:
        raise InvalidFileError(SETTINGS, f"in {file.path} cannot be read: {error}") from error
    words, tasks = (settings.get(name) for name in ("ours", "tasks")) if isinstance(settings, dict) else (None, None)
    if not isinstance(words, list) or not all(isinstance(word, str) and "=" in word for word in words):
        raise InvalidFileError(SETTINGS, f'in {file.path} lacks "ours", a list of KEY=VALUE of our command line')
    if not isinstance(tasks, int) or tasks < 1:
        raise InvalidFileError(
            SETTINGS, f'in {file.path} has "tasks": {tasks!r}, it must be a whole number of at least 1'
        )
    return dict(settings)
