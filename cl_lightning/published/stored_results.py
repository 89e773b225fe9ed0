"""Results of a table's runs as small files for version control.

A run folder holds everything; stored is what a table needs: the configuration that the numbers depend on,
the numbers, and the provenance without host, paths and command line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cl_lightning.core.types import CLASS_INCREMENTAL, TASK_INCREMENTAL
from cl_lightning.published.tables import Job
from cl_lightning.report.results import write_json

_PROVENANCE = ("commit", "device", "python", "versions", "started", "seconds")


@dataclass(frozen=True)
class StoredRun:
    """The stored results of one run of a table."""

    science: Mapping[str, Any]
    """Flat configuration, see ``config.identity.numeric_settings``."""
    curve: tuple[float, ...]
    """Accuracy in % on all classes seen, after each task done."""
    top5: tuple[float, ...]
    tasks: int
    """Number of tasks of the whole run."""
    content: Mapping[str, Any]
    """Content of the stored file."""
    by_protocol: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Protocol -> the curve of the main read-out under it, of the protocols that were measured."""

    @property
    def finished(self) -> bool:
        """True if all tasks have been learnt."""
        return len(self.curve) == self.tasks

    @property
    def main_curve(self) -> tuple[float, ...]:
        """Accuracy in % on all classes seen at the end of each main phase; empty where phases were not evaluated."""
        protocol, readout = self.content["protocol"]["evaluation"], self.content["protocol"]["readout"]
        measured = [each for each in self.content.get("phase_accuracy", []) if each["phase"] == "main"]
        return tuple(100 * each["accuracy"][protocol][readout] for each in measured)

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of ``tables.METRICS``, in %, over the tasks done."""
        curves = {"": self.curve, "5": self.top5}
        means = {f"avg{end}": sum(values) / len(values) for end, values in curves.items()}
        lasts = {f"last{end}": values[-1] for end, values in curves.items()}
        told = {
            f"{prefix}_{name}": value
            for prefix, protocol in (("class", CLASS_INCREMENTAL), ("task", TASK_INCREMENTAL))
            if (values := self.by_protocol.get(protocol))
            for name, value in (("avg", sum(values) / len(values)), ("last", values[-1]))
        }
        return {**means, **lasts, **told}


def condense(results: Mapping[str, Any], science: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a run's ``results.json`` that are stored."""
    provenance = results["provenance"]
    return {
        "config": dict(science),
        **{key: value for key, value in results.items() if key != "provenance"},
        "provenance": {key: provenance[key] for key in _PROVENANCE if key in provenance}
        | {"tasks": provenance.get("tasks", [])},
    }


def parse_stored(content: Mapping[str, Any]) -> StoredRun:
    """Invert :func:`condense`."""
    protocol, readout = content["protocol"]["evaluation"], content["protocol"]["readout"]

    def seen(name: str, under: str = protocol) -> tuple[float, ...]:
        return tuple(100 * task[name][under][readout] for task in content["tasks"])

    both = {one: seen("accuracy", one) for one in (CLASS_INCREMENTAL, TASK_INCREMENTAL) if _has(content, one)}
    number = len(content["protocol"]["tasks"])
    return StoredRun(content["config"], seen("accuracy"), seen("top5"), number, content, both)


def _has(content: Mapping[str, Any], protocol: str) -> bool:
    readout = content["protocol"]["readout"]
    return all(readout in task["accuracy"].get(protocol, {}) for task in content["tasks"])


def store(folder: Path, job: Job, content: Mapping[str, Any]) -> Path:
    """Write the result of :func:`condense` below ``folder``; returns the file."""
    path = folder / f"{job.path}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)
    return path


def read_stored(folder: Path, jobs: Sequence[Job]) -> dict[Job, StoredRun]:
    """Read the stored runs among ``jobs``."""
    paths = {job: folder / f"{job.path}.json" for job in jobs}
    return {
        job: parse_stored(json.loads(path.read_text(encoding="utf-8"))) for job, path in paths.items() if path.exists()
    }
