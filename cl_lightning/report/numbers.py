"""The numbers behind figures, captions and tables, all taken from a run's files: accuracies in %, NaN where nothing was
measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cl_lightning.metrics.confusion import between_tasks
from cl_lightning.report.data import ReportInput


def percent(value: float | None) -> float:
    """Convert a share to %; NaN for what was not measured."""
    return math.nan if value is None else 100 * value


def main_matrix(run: ReportInput) -> list[list[float]]:
    """Return R[i][j] in %: on task j after task i, by the main protocol and read-out; NaN without test images."""
    protocol = run.results["protocol"]
    rows = run.results["accuracy_matrix"][protocol["evaluation"]][protocol["readout"]]
    return [[percent(value) for value in row] for row in rows]


def main_curve(run: ReportInput) -> list[float]:
    """Return the accuracy in % on all classes seen after each task, by the main protocol and read-out."""
    protocol = run.results["protocol"]
    tasks = run.results["tasks"]
    return [percent(task["accuracy"][protocol["evaluation"]][protocol["readout"]]) for task in tasks]


def seen_classes(run: ReportInput) -> list[int]:
    """Return the number of classes learnt after each task."""
    counts = [len(task["classes"]) for task in run.results["tasks"]]
    return np.cumsum(counts).tolist()


def class_names(run: ReportInput) -> list[str]:
    """Return the names of the classes learnt, in the order in which they were learnt."""
    return [name for task in run.results["tasks"] for name in task["names"]]


def distinct_curves(run: ReportInput, protocol: str) -> list[tuple[str, list[float]]]:
    """Return the curve of each read-out in %; equal ones are one curve under all of their names."""
    curves: dict[tuple[float | None, ...], list[str]] = {}
    for readout in run.results["tasks"][-1]["accuracy"][protocol]:
        values = tuple(task["accuracy"][protocol][readout] for task in run.results["tasks"])
        curves.setdefault(values, []).append(readout)
    return [(" = ".join(names), [percent(value) for value in values]) for values, names in curves.items()]


def after_phases(run: ReportInput) -> dict[str, list[float]]:
    """Return the accuracy in % on all classes seen, a value a task (NaN where it does not apply), after each phase
    by each of its read-outs, and after the whole task by the main one; main protocol. Empty where no phase was
    evaluated.
    """
    results = run.results
    protocol, main, num_tasks = results["protocol"]["evaluation"], results["protocol"]["readout"], len(results["tasks"])
    curves: dict[str, list[float]] = {}
    finished = [entry for entry in results.get("phase_accuracy", []) if entry["task"] < num_tasks]
    for entry in finished:
        for readout, value in entry["accuracy"].get(protocol, {}).items():
            curves.setdefault(f"{entry['phase']}, {readout}", [math.nan] * num_tasks)[entry["task"]] = percent(value)
    if curves:
        curves[f"whole task, {main}"] = main_curve(run)
    return curves


@dataclass(frozen=True)
class Fall:
    """The accuracy in % that an old task has lost since it was best."""

    task: int
    best: float
    present: float

    @property
    def points(self) -> float:
        """The loss in points; negative where the task has never been better."""
        return self.best - self.present


def falls(run: ReportInput) -> dict[int, list[Fall]]:
    """Return the falls of the old tasks, as they are after each later task (from 0); tasks measured both times."""
    R = main_matrix(run)
    found: dict[int, list[Fall]] = {}
    for after in range(1, len(R)):
        for task in range(after):
            best = [R[k][task] for k in range(task, after) if not math.isnan(R[k][task])]
            if best and not math.isnan(R[after][task]):
                found.setdefault(after, []).append(Fall(task, max(best), R[after][task]))
    return found


def task_confusion(run: ReportInput) -> NDArray[np.float64] | None:
    """Return (T, T), the share in % of task i's test images predicted as a class of task j, after the last task."""
    import torch

    counts = run.data.confusion
    if counts is None:
        return None
    boundaries = [0, *seen_classes(run)]
    between = between_tasks(torch.from_numpy(counts), boundaries).double()
    share: NDArray[np.float64] = (100 * between / between.sum(dim=1, keepdim=True)).numpy()  # NaN: no test images
    return share


def class_accuracy(run: ReportInput) -> list[float] | None:
    """Return the share in % of each class's test images that are taken for it after the last task, all classes
    competing; None where answers were not counted.
    """
    counts = run.data.confusion
    if counts is None:
        return None
    right, images = counts.diagonal(), counts.sum(axis=1)
    return [100 * int(hits) / int(n) if n else math.nan for hits, n in zip(right, images, strict=True)]
