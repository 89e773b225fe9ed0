"""The numbers of a run, read from its files: no code of the package is needed, so any commit's will do.

Floats are rounded (losses and rates to 7 digits, which is what single precision holds; sums of weights to 9), so that a
file can be read and compared; on one machine equal code gives equal digits.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

AXES = ("step", "epoch", "task")
"""Columns of metrics.csv with the position of a point, which are not compared."""
TASK_AXIS = "task/index"
CURVE_DIGITS, WEIGHT_DIGITS = 7, 9


@dataclass(frozen=True)
class Run:
    """The numbers of one run; of a failed run, the reason."""

    overrides: list[str] = field(default_factory=list)
    failed: str | None = None
    phases: list[tuple[int, str, int]] = field(default_factory=list)
    """Task (from 0), name and steps of each phase, in order."""
    steps: list[int] = field(default_factory=list)
    """Steps at which there are points."""
    curves: dict[str, list[float | None]] = field(default_factory=dict)
    """Terms of the loss, learning rate and monitored_scalars at these steps; null where a curve has no point."""
    exemplars: list[dict[str, list[int | str]]] = field(default_factory=list)
    """For each memory: class -> keys of the exemplars after the last task, best first."""
    matrices: dict[str, list[list[tuple[int, int]]]] = field(default_factory=dict)
    """Protocol and read-out -> after each task, for each task: right answers, and images."""
    weights: dict[str, dict[str, float]] = field(default_factory=dict)
    """Part of a checkpoint -> count, sum and norm of its numbers."""

    def place(self, step: int) -> str:
        """Describe a step: with its task (from 1) and phase."""
        before = 0
        for task, phase, steps in self.phases:
            before += steps
            if step <= before:
                return f"step {step} (task {task + 1}, {phase})"
        return f"step {step}"


def read_run(folder: Path, overrides: list[str]) -> Run:
    """Read the numbers of the run in ``folder``.

    Raises:
        OSError, ValueError, KeyError: a file is missing or is none of a run of ours.
    """
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    steps, curves = _curves(folder / "metrics.csv")
    payload = torch.load(_last_checkpoint(folder / "checkpoints"), map_location="cpu", weights_only=True)
    return Run(
        overrides,
        None,
        [(entry["task"], entry["phase"], entry["steps"]) for entry in results["provenance"].get("phases", ())],
        steps,
        curves,
        [{str(label): list(keys) for label, keys in kept.items()} for kept in payload["memory"]["lists"]],
        _matrices(folder / "accuracy_matrix.csv"),
        {**_weights("network", payload["network"]["weights"]), **_weights("beside it", payload["extra"])},
    )


def _curves(path: Path) -> tuple[list[int], dict[str, list[float | None]]]:
    with path.open(encoding="utf-8", newline="") as file:
        points = [row for row in csv.DictReader(file) if not row.get(TASK_AXIS)]
    columns = [name for name in points[0] if name not in AXES and any(row[name] for row in points)] if points else []
    curves = {
        name: [rounded(float(row[name]), CURVE_DIGITS) if row[name] else None for row in points] for name in columns
    }
    return [int(row["step"]) for row in points], curves


def _matrices(path: Path) -> dict[str, list[list[tuple[int, int]]]]:
    matrices: dict[str, list[list[tuple[int, int]]]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows = matrices.setdefault(f"{row['protocol']} {row['readout']}", [])
            after, on = int(row["after_task"]), int(row["eval_task"])
            if on == 0:
                rows.append([])
            if (after, on) != (len(rows) - 1, len(rows[-1])):
                raise ValueError(f"{path.name} has task {on} after task {after} out of order")
            rows[-1].append((int(row["hits"]), int(row["total"])))
    return matrices


def _last_checkpoint(folder: Path) -> Path:
    """Return the checkpoint of the last finished task, none within a task."""
    ends = {int(match[1]): path for path in folder.iterdir() if (match := re.fullmatch(r"task_(\d+)\.pt", path.name))}
    if not ends:
        raise ValueError("checkpoints/ holds no end of a task")
    return ends[max(ends)]


def _weights(name: str, state: Any) -> dict[str, dict[str, float]]:
    """Return totals of floats and of whole numbers (bits of masks, counters) separately: these would hide those."""
    tensors = list(_tensors(state))
    floats = [tensor for tensor in tensors if tensor.is_floating_point()]
    others = [tensor for tensor in tensors if not tensor.is_floating_point()]
    parts = {name: floats, f"{name}, whole numbers": others}
    return {part: totals(found) for part, found in parts.items() if found}


def totals(tensors: list[Tensor]) -> dict[str, float]:
    """Return count, sum and norm of all numbers, whatever the names of the tensors."""
    flat = torch.cat([tensor.detach().to(torch.float64).flatten() for tensor in tensors])
    return {
        "count": flat.numel(),
        "sum": rounded(float(flat.sum()), WEIGHT_DIGITS),
        "norm": rounded(float(flat.norm()), WEIGHT_DIGITS),
    }


def _tensors(state: Any) -> Iterator[Tensor]:
    """Yield all tensors in nested plain values."""
    match state:
        case Tensor():
            yield state
        case Mapping():
            for value in state.values():
                yield from _tensors(value)
        case list() | tuple():
            for value in state:
                yield from _tensors(value)


def rounded(value: float, digits: int) -> float:
    """Round ``value`` to so many significant digits."""
    return float(f"{value:.{digits - 1}e}")
