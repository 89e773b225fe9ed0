"""The first screen of the page: what was run, on what, and its main numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cl_lightning.core.origins import ORIGINS
from cl_lightning.report.data import ReportInput
from cl_lightning.report.numbers import class_names
from cl_lightning.report.words import counted, duration, hyphenated, share


@dataclass(frozen=True)
class Tile:
    """A main number, its name, and what it means."""

    name: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Fact:
    """A line on what was run."""

    name: str
    value: str


def title(run: ReportInput) -> str:
    """Return the page's title."""
    protocol = run.results["protocol"]
    return f"{protocol['method']} on {run.data.folder or protocol['data']}"


def subtitle(run: ReportInput) -> str:
    """Return the line below the title: the scenario in one glance."""
    protocol = run.results["protocol"]
    parts = [
        f"{counted(sum(protocol['tasks']), 'class', 'classes')} in {_sizes(protocol['tasks'])}",
        hyphenated(protocol["evaluation"]),
        f"memory {protocol['memory']}" if "memory" in protocol else "",
        f"seed {protocol['seed']}" if "seed" in protocol else "",
    ]
    return " · ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts if part)


def status(run: ReportInput) -> str:
    """Return how far the run is, if it is not finished."""
    done, planned = len(run.results["tasks"]), len(run.results["protocol"]["tasks"])
    return "" if done == planned else f"Unfinished: {done} of {counted(planned, 'task')}."


def tiles(run: ReportInput) -> list[Tile]:
    """Return the main numbers of the run, the most important first."""
    results = run.results
    return [
        Tile(
            "average incremental accuracy",
            share(results["average_incremental_accuracy"]),
            "mean over tasks, on all classes seen",
        ),
        Tile("last accuracy", share(results["last_accuracy"]), "after the last task, on all classes"),
        *_class_balanced(results),
        Tile("forgetting", share(results["forgetting"]), "points below the best, mean over old tasks"),
        Tile("backward transfer", share(results["backward_transfer"]), "change of old tasks by newer ones"),
        Tile("parameters", f"{results['parameters']:,}", "in the network, at the end"),
        Tile("time", duration(results["provenance"].get("seconds")), "of the whole run"),
    ]


def _class_balanced(results: Mapping[str, Any]) -> list[Tile]:
    """Return a tile where the classes' test images are unequal in number, so that their balance makes a difference."""
    last, macro = results["last_accuracy"], results.get("last_macro_accuracy")
    if last is None or macro is None or math.isclose(last, macro, rel_tol=1e-9):
        return []
    return [Tile("last accuracy by class", share(macro), "each class weighing the same")]


def facts(run: ReportInput) -> list[Fact]:
    """Return what was run, on what, and how it was measured; lines of which nothing is known are left out."""
    protocol, provenance = run.results["protocol"], run.results["provenance"]
    lines = {
        "Method": _joined(protocol, "method", recipe="recipe {}"),
        "Origin": _origin(protocol),
        "Data": f"{_data(run)}{_images(run)}",
        "Tasks": _sizes(protocol["tasks"]),
        "Network": _joined(protocol, "model"),
        "Memory": _joined(protocol, "memory"),
        "Measured": f"{hyphenated(protocol['evaluation'])}, read-out {protocol['readout']}{_on(protocol)}",
        "Training": _training(protocol),
        "Device": provenance.get("device", ""),
        "Started": _joined(
            {**provenance, "started": _minute(provenance.get("started"))}, "started", commit="commit {}"
        ),
    }
    return [Fact(name, value) for name, value in lines.items() if value]


def _training(protocol: Mapping[str, Any]) -> str:
    if protocol.get("epochs") == "none":
        return "none: the network came trained, and stayed as it was"
    return _joined(protocol, "epochs", batch="batches of {}", precision="{}")


def _origin(protocol: Mapping[str, Any]) -> str:
    """Return what the method is beside its paper; nothing where nobody knows."""
    label = protocol.get("origin")
    return f"{label}: {ORIGINS[label]}" if label in ORIGINS else ""


def _data(run: ReportInput) -> str:
    """Return the name of the data, and that of their folder where they are somebody's own."""
    name: str = run.results["protocol"]["data"]
    return f"{run.data.folder} ({name})" if run.data.folder else name


def _joined(values: Mapping[str, Any], first: str, **others: str) -> str:
    """Return the values that there are, each in its words."""
    known = [str(values[first])] if values.get(first) is not None else []
    known += [words.format(values[name]) for name, words in others.items() if values.get(name) is not None]
    return ", ".join(known)


def _sizes(tasks: Sequence[int]) -> str:
    """Return the number of tasks and of their classes."""
    if len(tasks) == 1:
        return f"1 task of {counted(tasks[0], 'class', 'classes')}"
    if len(set(tasks)) == 1:
        return f"{len(tasks)} tasks of {counted(tasks[0], 'class', 'classes')}"
    if len(set(tasks[1:])) == 1:
        each = " each" if len(tasks) > 2 else ""
        return f"{len(tasks)} tasks: {counted(tasks[0], 'class', 'classes')}, then {tasks[1]}{each}"
    return f"{len(tasks)} tasks of {min(tasks)} to {max(tasks)} classes"


def _minute(started: str | None) -> str | None:
    """Return a time as a reader writes it; one in another form as it is."""
    try:
        return None if started is None else datetime.fromisoformat(started).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return started


def _on(protocol: Mapping[str, Any]) -> str:
    part = protocol.get("evaluates_on")
    return f", on the {part} images" if part else ""


def _images(run: ReportInput) -> str:
    """Return the numbers of images of the classes learnt, where all are known."""
    names, parts = class_names(run), []
    for part, images in run.results.get("images", {}).items():
        counts = [images.get(name) for name in names]
        if None not in counts:
            parts.append(f"{sum(counts):,} {part}")
    return f": {' and '.join(parts)} images" if parts else ""
