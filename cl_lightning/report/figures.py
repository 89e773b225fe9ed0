"""The figures of a report: each a function of the run that returns ``None`` where the run has no data for it.

Text and lines are drawn in one ink colour, which the page replaces by its own, so that a figure reads on white, on
black and on paper. Colours of data are those of Okabe and Ito, which the colour-blind can tell apart; lines differ in
their markers too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from cl_lightning.metrics.confusion import between_tasks, reliability
from cl_lightning.report.data import ReportInput

INK = "#111213"
"""Colour of text and axes."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7a7a", "#b8a600")
_MARKERS = "osD^vPX*"
_WIDE, _HIGH = 5.6, 3.3
_POINTS = 400
_STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.titlesize": 9, "font.family": "sans-serif",
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#808080",
    "grid.alpha": 0.25, "axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none",
    "legend.frameon": False, "legend.fontsize": 8, "lines.linewidth": 1.6, "lines.markersize": 4,
    "figure.constrained_layout.w_pad": 0.1, "figure.constrained_layout.h_pad": 0.06,
    "axes.prop_cycle": cycler(color=COLOURS),
}  # fmt: skip

_LAYOUT: Literal["constrained"] = "constrained"

Draw = Callable[[ReportInput], Figure | None]


def styled(draw: Draw) -> Draw:
    """Return ``draw`` in the report's style, whatever the user's own settings of matplotlib are."""

    def drawn(run: ReportInput) -> Figure | None:
        with mpl.rc_context(dict(mpl.rcParamsDefault) | _STYLE | {"backend": mpl.get_backend()}):
            figure = draw(run)
            if figure is not None:
                figure.canvas.draw()  # text is laid out now, in this style
            return figure

    return drawn


def main_matrix(run: ReportInput) -> list[list[float]]:
    """Return R[i][j] in %: on task j after task i, by the main protocol and read-out; NaN without test images."""
    protocol = run.results["protocol"]
    rows = run.results["accuracy_matrix"][protocol["evaluation"]][protocol["readout"]]
    return [[percent(value) for value in row] for row in rows]


def percent(value: float | None) -> float:
    """Convert a share to %; NaN for what was not measured."""
    return math.nan if value is None else 100 * value


def seen_classes(run: ReportInput) -> list[int]:
    """Return the number of classes learnt after each task."""
    counts = [len(task["classes"]) for task in run.results["tasks"]]
    return np.cumsum(counts).tolist()


def _axes(wide: float = _WIDE, high: float = _HIGH) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(wide, high), layout=_LAYOUT)
    return figure, figure.add_subplot()


@styled
def accuracy(run: ReportInput) -> Figure:
    """Draw the accuracy on all classes seen, for each protocol and read-out, and the published curve."""
    figure, axes = _axes()
    classes, main = seen_classes(run), run.results["protocol"]["evaluation"]
    styles = iter((":", "-."))  # dashes are the published curve's
    curves = 0
    for protocol, readouts in run.results["tasks"][-1]["accuracy"].items():
        style = "-" if protocol == main else next(styles)
        for index, (names, values) in enumerate(_distinct_curves(run, protocol, list(readouts))):
            label = f"{_hyphenated(protocol)}, {names}"
            axes.plot(classes, values, style, marker=_MARKERS[index % 8], color=COLOURS[index % 8], label=label)
            curves += 1
    published = run.data.published
    if published is not None:
        points = published.accuracy[: len(classes)]
        axes.plot(classes[: len(points)], points, "--", color=INK, marker="x", label=f"published: {published.name}")
    axes.set(xlabel="classes learnt", ylabel="accuracy on all of them in %", ylim=(0, 102))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if curves > _CURVES_BESIDE:
        figure.set_figheight(_HIGH + 0.1 * curves)
        figure.legend(loc="outside lower center", ncols=2)
    else:
        axes.legend(loc="lower left")
    return figure


_CURVES_BESIDE = 3
"""Largest number of curves whose legend fits inside the axes."""


def _distinct_curves(run: ReportInput, protocol: str, readouts: list[str]) -> list[tuple[str, list[float]]]:
    """Return the curve of each read-out in %; equal ones are one curve under all of their names."""
    curves: dict[tuple[float | None, ...], list[str]] = {}
    for readout in readouts:
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
    for entry in results.get("phase_accuracy", []):
        for readout, value in entry["accuracy"].get(protocol, {}).items():
            curves.setdefault(f"{entry['phase']}, {readout}", [math.nan] * num_tasks)[entry["task"]] = percent(value)
    if curves:
        curves[f"whole task, {main}"] = [percent(task["accuracy"][protocol][main]) for task in results["tasks"]]
    return curves


@styled
def phases(run: ReportInput) -> Figure | None:
    """Draw the accuracy on all classes seen after each phase of each task, and after the task."""
    curves = after_phases(run)
    if not curves:
        return None
    figure, axes = _axes()
    classes = seen_classes(run)
    *of_phases, whole = curves
    for index, name in enumerate(of_phases):
        marker, colour = _MARKERS[index % 8], COLOURS[index % 8]
        axes.plot(classes, curves[name], linestyle="none", marker=marker, color=colour, label=f"after {name}")
    axes.plot(classes, curves[whole], color=INK, linewidth=0.9, zorder=0.9, label=f"after the {whole}")
    axes.set(xlabel="classes learnt", ylabel="accuracy on all of them in %", ylim=(0, 102))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower left")
    return figure


@styled
def matrix(run: ReportInput) -> Figure:
    """Draw the accuracy matrix as a heat map."""
    R = main_matrix(run)
    square = np.full((len(R), len(R)), np.nan)
    for after, row in enumerate(R):
        square[after, : len(row)] = row
    return _heat_map(square, "after task", "accuracy on task", "%", (0, 100), "viridis", digits=0)


@styled
def tasks_over_time(run: ReportInput) -> Figure | None:
    """Draw the accuracy on each task over time."""
    R = main_matrix(run)
    if len(R) < 2:
        return None
    figure, axes = _axes()
    colours = mpl.colormaps["viridis"](np.linspace(0.25, 0.88, len(R)))
    for task in range(len(R)):
        after = range(task, len(R))
        label = f"task {task + 1}" if len(R) <= 12 or task in (0, len(R) - 1) else None
        axes.plot(
            [a + 1 for a in after], [R[a][task] for a in after], marker=_MARKERS[task % 8], color=colours[task],
            label=label,
        )  # fmt: skip
    axes.set(xlabel="after task", ylabel="accuracy on its test images in %", ylim=(0, 102))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


@styled
def forgetting(run: ReportInput) -> Figure | None:
    """Draw forgetting after each task: best accuracy so far less the present one, mean over old tasks."""
    R = main_matrix(run)
    if len(R) < 2:
        return None
    lost = {
        k: [fall for task in range(k) if not math.isnan(fall := max(R[i][task] for i in range(task, k)) - R[k][task])]
        for k in range(1, len(R))
    }
    after = [k for k, values in lost.items() if values]
    if not after:
        return None
    figure, axes = _axes()
    axes.bar([k + 1 for k in after], [float(np.mean(lost[k])) for k in after], color=COLOURS[1], label="mean")
    axes.plot([k + 1 for k in after], [max(lost[k]) for k in after], "^", color=INK, label="most forgotten task")
    axes.set(xlabel="after task", ylabel="points of accuracy lost")
    if not any(lost[k][task] for k in after for task in range(len(lost[k]))):
        axes.set_ylim(0, 1)  # without forgetting, matplotlib would choose a scale around 0
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


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


@styled
def confusion(run: ReportInput) -> Figure | None:
    """Draw the confusion between tasks."""
    share = task_confusion(run)
    if share is None or len(share) < 2:
        return None
    return _heat_map(share, "images of task", "taken for a class of task", "%", (0, 100), "magma_r", digits=0)


@styled
def calibration(run: ReportInput) -> Figure | None:
    """Draw confidence against accuracy, of old and of new classes."""
    import torch

    counts = run.data.reliability
    if counts is None:
        return None
    figure, axes = _axes()
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--", label="as sure as right")
    for name, group, marker, colour in zip(("old classes", "new classes"), counts, "os", COLOURS, strict=False):
        calibrated = reliability(torch.from_numpy(group))
        if calibrated.calibration_error is None:
            continue
        points = [
            (c, a, n)
            for c, a, n in zip(calibrated.confidence, calibrated.accuracy, calibrated.images, strict=True)
            if n
        ]
        x, y, sizes = zip(*points, strict=True)
        error = 100 * calibrated.calibration_error
        axes.plot(x, y, color=colour, label=f"{name}: error {error:.1f} points, {sum(sizes)} images")
        axes.scatter(x, y, [8 + 90 * n / max(sizes) for n in sizes], color=colour, marker=marker, alpha=0.7)
    axes.set(xlabel="confidence in the answer", ylabel="share of right answers", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(loc="upper left")
    return figure


@styled
def losses(run: ReportInput) -> Figure | None:
    """Draw the terms of the loss over all phases, weighted as they are summed."""
    names = sorted({name for row in run.curves for name in row if name.startswith("loss/") and name != "loss/total"})
    if not names:
        return None
    figure, axes = _axes()
    for name, marker in zip(names, cycle(_MARKERS), strict=False):
        points = np.array([(row["step"], row[name]) for row in run.curves if name in row])
        steps, values = _thinned(points)
        axes.plot(steps, values, label=name.removeprefix("loss/"), marker=marker, markevery=0.1, linewidth=1.1)
    _task_lines(axes, run)
    axes.set(xlabel="optimiser steps of all phases", ylabel="loss")
    if all(value > 0 for row in run.curves for name in names if (value := row.get(name)) is not None):
        axes.set_yscale("log")
    axes.legend()
    return figure


@styled
def learning_rate(run: ReportInput) -> Figure | None:
    """Draw the learning rate over all phases."""
    points = np.array([(row["step"], row["lr"]) for row in run.curves if "lr" in row])
    if not len(points):
        return None
    figure, axes = _axes(high=2.4)
    axes.plot(*_thinned(points), linewidth=1.1)
    _task_lines(axes, run)
    axes.set(xlabel="optimiser steps of all phases", ylabel="learning rate", ylim=(0, None))
    return figure


@styled
def tokens(run: ReportInput) -> Figure | None:
    """Draw the cosine similarity of the tasks' tokens, or banks of keys."""
    vectors = run.data.tokens
    if vectors is None or len(vectors) < 2:
        return None
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
    return _heat_map(units @ units.T, "brought by task", "brought by task", "cosine", (-1, 1), "RdBu_r", digits=2)


@styled
def speed(run: ReportInput) -> Figure | None:
    """Draw seconds and images a second of each phase."""
    phases = run.results["provenance"]["phases"]
    if not phases:
        return None
    figure = Figure(figsize=(_WIDE, _HIGH), layout=_LAYOUT)
    above, below = figure.subplots(2, 1, sharex=True)
    names = list(dict.fromkeys(phase["phase"] for phase in phases))
    bottom = np.zeros(1 + max(phase["task"] for phase in phases))
    for name, marker in zip(names, cycle(_MARKERS), strict=False):
        own = [phase for phase in phases if phase["phase"] == name]
        tasks = np.array([phase["task"] for phase in own])
        above.bar(tasks + 1, [phase["seconds"] for phase in own], bottom=bottom[tasks], label=name)
        bottom[tasks] += [phase["seconds"] for phase in own]
        below.plot(tasks + 1, [phase["images"] / max(phase["seconds"], 1e-9) for phase in own], marker=marker)
    above.set(ylabel="seconds")
    above.legend()
    below.set(xlabel="task", ylabel="images/s", ylim=(0, None))
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@styled
def attention(run: ReportInput) -> Figure | None:
    """Draw each task's attention over example images."""
    images, maps = run.data.attended, run.data.attention
    if images is None or maps is None:
        return None
    tasks = min(maps.shape[1], 10)
    figure = Figure(figsize=(0.75 * (tasks + 1), 0.8 * len(images) + 0.25), layout=_LAYOUT)
    grid = np.atleast_2d(np.asarray(figure.subplots(len(images), tasks + 1), dtype=object)).reshape(len(images), -1)
    for image, of_tasks, row in zip(images, maps, grid, strict=True):
        row[0].imshow(image.squeeze(), cmap="gray")
        for axes, share in zip(row[1:], of_tasks, strict=False):
            axes.imshow(image.squeeze(), cmap="gray", extent=(0, 1, 0, 1))
            axes.imshow(share, cmap="inferno", alpha=0.65, extent=(0, 1, 0, 1), interpolation="nearest")
    for column, axes in enumerate(grid[0]):
        axes.set_title("image" if column == 0 else f"task {column}", fontsize=7)
    for axes in grid.flat:
        axes.set_axis_off()
    return figure


def _heat_map(
    values: NDArray[np.float64], rows: str, columns: str, unit: str, limits: tuple[float, float], colours: str,
    digits: int,
) -> Figure:  # fmt: skip
    size = len(values)
    side = min(5.2, max(2.8, 0.42 * size + 1.2))
    figure, axes = _axes(side + 0.8, side)
    colour_map = mpl.colormaps[colours].with_extremes(bad=(0, 0, 0, 0))
    picture = axes.imshow(np.ma.masked_invalid(values), cmap=colour_map, vmin=limits[0], vmax=limits[1])
    axes.set(xlabel=columns, ylabel=rows)
    every = max(1, size // 10)
    ticks = list(range(0, size, every))
    axes.set_xticks(ticks, [str(tick + 1) for tick in ticks])
    axes.set_yticks(ticks, [str(tick + 1) for tick in ticks])
    axes.grid(visible=False)
    if size <= 12:
        for row in range(size):
            for column in range(size):
                if np.isfinite(values[row, column]):
                    _number(axes, column, row, values[row, column], picture, digits)
    figure.colorbar(picture, ax=axes, label=unit, shrink=0.85)
    return figure


def _number(axes: Axes, x: int, y: int, value: float, picture: mpl.image.AxesImage, digits: int) -> None:
    red, green, blue, _ = np.asarray(picture.cmap(picture.norm(np.array([value]))))[0]
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
    axes.text(
        x, y, f"{value:.{digits}f}", ha="center", va="center", fontsize=7, color="#fefefe" if dark else "#020202"
    )  # fmt: skip


def _thinned(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return steps and values, neighbours averaged where there are more than a reader could distinguish."""
    parts = np.array_split(points, min(len(points), _POINTS))
    steps, values = np.array([part.mean(axis=0) for part in parts]).T
    return steps, values


def _task_lines(axes: Axes, run: ReportInput) -> None:
    """Mark the steps at which a new task begins."""
    starts: Sequence[float] = [row["step"] for row in run.curves if "task/index" in row][:-1]
    for step in starts:
        axes.axvline(step, color=INK, linewidth=1.0, linestyle=":", zorder=0.5)


def _hyphenated(protocol: str) -> str:
    return protocol.replace("_", "-")
