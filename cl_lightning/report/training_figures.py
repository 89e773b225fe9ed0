"""The figures of a report that show how a network was trained, and what it became."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogFormatter
from numpy.typing import NDArray

from cl_lightning.report.data import ReportInput
from cl_lightning.report.drawing import (
    INK,
    MARKERS,
    SMALL,
    WIDTH,
    heat_map,
    key,
    name,
    new_axes,
    new_figure,
    styled,
    whole_numbers,
)

_POINTS = 200
_MARKED_TASKS = 20
"""Largest number of tasks whose beginnings are marked in a curve."""
_ATTENDED_TASKS = 10
"""Largest number of tasks whose attention is drawn: the first ones."""


class _PlainLog(LogFormatter):
    """Labels of a logarithmic axis as plain numbers, where matplotlib would write powers of ten."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


@styled
def losses(run: ReportInput) -> Figure | None:
    """Draw the terms of the loss over all phases, weighted as they are summed."""
    names = sorted({term for row in run.curves for term in row if term.startswith("loss/") and term != "loss/total"})
    if not names:
        return None
    figure, axes = new_axes()
    for term, marker in zip(names, cycle(MARKERS), strict=False):
        points = np.array([(row["step"], row[term]) for row in run.curves if term in row])
        steps, values = _thinned(points)
        label = name(term.removeprefix("loss/"))
        axes.plot(steps, values, label=label, marker=marker, markevery=max(1, len(steps) // 10), linewidth=1.1)
    _mark_tasks(axes, run)
    axes.set(xlabel="optimiser steps of all phases", ylabel="loss")
    if all(value > 0 for row in run.curves for term in names if (value := row.get(term)) is not None):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(_PlainLog())
        axes.yaxis.set_minor_formatter(_PlainLog(minor_thresholds=(1.5, 0.5)))
    key(axes)
    return figure


@styled
def learning_rate(run: ReportInput) -> Figure | None:
    """Draw the learning rate over all phases."""
    points = np.array([(row["step"], row["lr"]) for row in run.curves if "lr" in row])
    if not len(points):
        return None
    figure, axes = new_axes()
    axes.plot(*_thinned(points), linewidth=1.3)
    _mark_tasks(axes, run)
    axes.set(xlabel="optimiser steps of all phases", ylabel="learning rate", ylim=(0, None))
    return figure


def task_starts(run: ReportInput) -> list[float]:
    """Return the optimiser steps at which a new task begins; none where they are too many to be told apart."""
    starts = [row["step"] for row in run.curves if "task/index" in row and "step" in row][:-1]
    return starts if len(starts) < _MARKED_TASKS else []


@styled
def speed(run: ReportInput) -> Figure | None:
    """Draw seconds and images a second of each phase."""
    phases = run.results["provenance"]["phases"]
    if not phases:
        return None
    figure = new_figure(WIDTH, 3.2)
    above, below = figure.subplots(2, 1, sharex=True)
    names = list(dict.fromkeys(phase["phase"] for phase in phases))
    tasks_done = 1 + max(phase["task"] for phase in phases)
    bottom = np.zeros(tasks_done)
    for phase_name, marker in zip(names, cycle(MARKERS), strict=False):
        own = [phase for phase in phases if phase["phase"] == phase_name]
        tasks = np.array([phase["task"] for phase in own])
        above.bar(tasks + 1, [phase["seconds"] for phase in own], 0.6, bottom=bottom[tasks], label=name(phase_name))
        np.add.at(bottom, tasks, [phase["seconds"] for phase in own])
        below.plot(tasks + 1, [phase["images"] / max(phase["seconds"], 1e-9) for phase in own], marker=marker)
    above.set(ylabel="seconds")
    above.xaxis.grid(visible=False)
    below.set(xlabel="task", ylabel="images/s", ylim=(0, None))
    below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    slots = max(5, tasks_done)
    below.set_xlim((tasks_done + 1 - slots) / 2, (tasks_done + 1 + slots) / 2)
    whole_numbers(below.xaxis, range(1, tasks_done + 1))
    key(above)
    return figure


@styled
def tokens(run: ReportInput) -> Figure | None:
    """Draw the cosine similarity of the tasks' tokens, or banks of keys."""
    vectors = run.data.tokens
    if vectors is None or len(vectors) < 2:
        return None
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
    digits = 2 if len(vectors) <= 8 else 1
    return heat_map(units @ units.T, "brought by task", "brought by task", "cosine", (-1, 1), "RdBu_r", digits=digits)


def tasks_attended(run: ReportInput) -> int:
    """Return the number of tasks whose attention is drawn."""
    return 0 if run.data.attention is None else min(run.data.attention.shape[1], _ATTENDED_TASKS)


@styled
def attention(run: ReportInput) -> Figure | None:
    """Draw each task's attention over example images."""
    images, maps = run.data.attended, run.data.attention
    if images is None or maps is None:
        return None
    tasks = tasks_attended(run)
    figure = new_figure(0.85 * (tasks + 1), 0.88 * len(images) + 0.25)
    grid = np.atleast_2d(np.asarray(figure.subplots(len(images), tasks + 1), dtype=object)).reshape(len(images), -1)
    for image, of_tasks, row in zip(images, maps, grid, strict=True):
        row[0].imshow(image.squeeze(), cmap="gray")
        for axes, share in zip(row[1:], of_tasks, strict=False):
            axes.imshow(image.squeeze(), cmap="gray", extent=(0, 1, 0, 1))
            axes.imshow(share, cmap="inferno", alpha=0.65, extent=(0, 1, 0, 1), interpolation="nearest")
    for column, axes in enumerate(grid[0]):
        axes.set_title("image" if column == 0 else f"task {column}", fontsize=SMALL)
    for axes in grid.flat:
        axes.set_axis_off()
    return figure


def _thinned(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return steps and values, neighbours averaged where there are more than a reader could distinguish."""
    parts = np.array_split(points, min(len(points), _POINTS))
    steps, values = np.array([part.mean(axis=0) for part in parts]).T
    return steps, values


def _mark_tasks(axes: Axes, run: ReportInput) -> None:
    """Mark the steps at which a new task begins."""
    starts: Sequence[float] = task_starts(run)
    for step in starts:
        axes.axvline(step, color=INK, linewidth=1.0, linestyle=":", zorder=0.5)
