"""The figures of a report: each a function of the run, ``None`` where the run has nothing to show in it.

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

from cl_lightning.metrics.answers import between_tasks, reliability
from cl_lightning.report.data import ReportInput

INK = "#111213"
"""Of text and axes."""
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
    """``draw`` in the report's style, whatever the user's own settings of matplotlib are."""

    def drawn(shown: ReportInput) -> Figure | None:
        with mpl.rc_context(dict(mpl.rcParamsDefault) | _STYLE | {"backend": mpl.get_backend()}):
            figure = draw(shown)
            if figure is not None:
                figure.canvas.draw()  # text is laid out now, in this style
            return figure

    return drawn


def main_matrix(shown: ReportInput) -> list[list[float]]:
    """R[i][j] in %: on task j after task i, by the main protocol and read-out; NaN where there were no test images."""
    protocol = shown.results["protocol"]
    rows = shown.results["accuracy_matrix"][protocol["evaluation"]][protocol["readout"]]
    return [[percent(value) for value in row] for row in rows]


def percent(value: float | None) -> float:
    """In %; NaN for what was not measured."""
    return math.nan if value is None else 100 * value


def seen_classes(shown: ReportInput) -> list[int]:
    """How many classes had been learnt after each task."""
    counts = [len(task["classes"]) for task in shown.results["tasks"]]
    return np.cumsum(counts).tolist()


def _axes(wide: float = _WIDE, high: float = _HIGH) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(wide, high), layout=_LAYOUT)
    return figure, figure.add_subplot()


@styled
def accuracy(shown: ReportInput) -> Figure:
    """Accuracy on all classes seen, for each protocol and read-out, and the published curve."""
    figure, axes = _axes()
    classes, main = seen_classes(shown), shown.results["protocol"]["evaluation"]
    styles = iter((":", "-."))  # dashes are the published curve's
    curves = 0
    for protocol, readouts in shown.results["tasks"][-1]["accuracy"].items():
        style = "-" if protocol == main else next(styles)
        for place, (names, values) in enumerate(_distinct_curves(shown, protocol, list(readouts))):
            label = f"{_words(protocol)}, {names}"
            axes.plot(classes, values, style, marker=_MARKERS[place % 8], color=COLOURS[place % 8], label=label)
            curves += 1
    published = shown.portrait.published
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
"""More of them leave no room for their names among them."""


def _distinct_curves(shown: ReportInput, protocol: str, readouts: list[str]) -> list[tuple[str, list[float]]]:
    """The curve of each read-out in %; those that are the same are one, under all of their names."""
    curves: dict[tuple[float | None, ...], list[str]] = {}
    for readout in readouts:
        values = tuple(task["accuracy"][protocol][readout] for task in shown.results["tasks"])
        curves.setdefault(values, []).append(readout)
    return [(" = ".join(names), [percent(value) for value in values]) for values, names in curves.items()]


def after_phases(shown: ReportInput) -> dict[str, list[float]]:
    """Accuracy in % on all classes seen, after each task (NaN where it does not apply), by what had ended: each phase
    by each of its read-outs, and the whole task by the main one; by the main protocol. Empty where no phase was
    evaluated.
    """
    results = shown.results
    protocol, main, num_tasks = results["protocol"]["evaluation"], results["protocol"]["readout"], len(results["tasks"])
    curves: dict[str, list[float]] = {}
    for entry in results.get("phase_accuracy", []):
        for readout, value in entry["accuracy"].get(protocol, {}).items():
            curves.setdefault(f"{entry['phase']}, {readout}", [math.nan] * num_tasks)[entry["task"]] = percent(value)
    if curves:
        curves[f"whole task, {main}"] = [percent(task["accuracy"][protocol][main]) for task in results["tasks"]]
    return curves


@styled
def phases(shown: ReportInput) -> Figure | None:
    """Accuracy on all classes seen after each phase of each task, and after the task."""
    curves = after_phases(shown)
    if not curves:
        return None
    figure, axes = _axes()
    classes = seen_classes(shown)
    *of_phases, whole = curves
    for place, name in enumerate(of_phases):
        marker, colour = _MARKERS[place % 8], COLOURS[place % 8]
        axes.plot(classes, curves[name], linestyle="none", marker=marker, color=colour, label=f"after {name}")
    axes.plot(classes, curves[whole], color=INK, linewidth=0.9, zorder=0.9, label=f"after the {whole}")
    axes.set(xlabel="classes learnt", ylabel="accuracy on all of them in %", ylim=(0, 102))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower left")
    return figure


@styled
def matrix(shown: ReportInput) -> Figure:
    """The accuracy matrix as a heat map."""
    R = main_matrix(shown)
    square = np.full((len(R), len(R)), np.nan)
    for after, row in enumerate(R):
        square[after, : len(row)] = row
    return _heat_map(square, "after task", "accuracy on task", "%", (0, 100), "viridis", digits=0)


@styled
def tasks_over_time(shown: ReportInput) -> Figure | None:
    """What became of each task."""
    R = main_matrix(shown)
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
def forgetting(shown: ReportInput) -> Figure | None:
    """How much of its best accuracy each old task has lost, mean over old tasks, after each task."""
    R = main_matrix(shown)
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
    if not any(lost[k][place] for k in after for place in range(len(lost[k]))):
        axes.set_ylim(0, 1)  # what never forgets has no scale of its own
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return figure


def task_confusion(shown: ReportInput) -> NDArray[np.float64] | None:
    """(T, T) share in % of the test images of task i that are taken for a class of task j, after the last task."""
    import torch

    counts = shown.portrait.confusion
    if counts is None:
        return None
    boundaries = [0, *seen_classes(shown)]
    between = between_tasks(torch.from_numpy(counts), boundaries).double()
    share: NDArray[np.float64] = (100 * between / between.sum(dim=1, keepdim=True)).numpy()  # NaN: no test images
    return share


@styled
def confusion(shown: ReportInput) -> Figure | None:
    """Which tasks lose to which."""
    share = task_confusion(shown)
    if share is None or len(share) < 2:
        return None
    return _heat_map(share, "images of task", "taken for a class of task", "%", (0, 100), "magma_r", digits=0)


@styled
def calibration(shown: ReportInput) -> Figure | None:
    """Confidence against accuracy, of old and of new classes."""
    import torch

    counts = shown.portrait.reliability
    if counts is None:
        return None
    figure, axes = _axes()
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--", label="as sure as right")
    for name, group, marker, colour in zip(("old classes", "new classes"), counts, "os", COLOURS, strict=False):
        found = reliability(torch.from_numpy(group))
        if found.calibration_error is None:
            continue
        points = [(c, a, n) for c, a, n in zip(found.confidence, found.accuracy, found.images, strict=True) if n]
        x, y, sizes = zip(*points, strict=True)
        error = 100 * found.calibration_error
        axes.plot(x, y, color=colour, label=f"{name}: error {error:.1f} points, {sum(sizes)} images")
        axes.scatter(x, y, [8 + 90 * n / max(sizes) for n in sizes], color=colour, marker=marker, alpha=0.7)
    axes.set(xlabel="confidence in the answer", ylabel="share of right answers", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(loc="upper left")
    return figure


@styled
def losses(shown: ReportInput) -> Figure | None:
    """The terms of the loss over all phases, weighted as they are summed."""
    names = sorted({name for row in shown.curves for name in row if name.startswith("loss/") and name != "loss/total"})
    if not names:
        return None
    figure, axes = _axes()
    for name, marker in zip(names, cycle(_MARKERS), strict=False):
        points = np.array([(row["step"], row[name]) for row in shown.curves if name in row])
        steps, values = _thinned(points)
        axes.plot(steps, values, label=name.removeprefix("loss/"), marker=marker, markevery=0.1, linewidth=1.1)
    _task_lines(axes, shown)
    axes.set(xlabel="optimiser steps of all phases", ylabel="loss")
    if all(value > 0 for row in shown.curves for name in names if (value := row.get(name)) is not None):
        axes.set_yscale("log")
    axes.legend()
    return figure


@styled
def learning_rate(shown: ReportInput) -> Figure | None:
    """The learning rate over all phases."""
    points = np.array([(row["step"], row["lr"]) for row in shown.curves if "lr" in row])
    if not len(points):
        return None
    figure, axes = _axes(high=2.4)
    axes.plot(*_thinned(points), linewidth=1.1)
    _task_lines(axes, shown)
    axes.set(xlabel="optimiser steps of all phases", ylabel="learning rate", ylim=(0, None))
    return figure


@styled
def tokens(shown: ReportInput) -> Figure | None:
    """How alike are the tokens, or whatever else a task brought."""
    vectors = shown.portrait.tokens
    if vectors is None or len(vectors) < 2:
        return None
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
    return _heat_map(units @ units.T, "brought by task", "brought by task", "cosine", (-1, 1), "RdBu_r", digits=2)


@styled
def speed(shown: ReportInput) -> Figure | None:
    """Seconds and images a second of each phase."""
    phases = shown.results["provenance"]["phases"]
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
def attention(shown: ReportInput) -> Figure | None:
    """Where the network looks for each task, over example images."""
    images, maps = shown.portrait.attended, shown.portrait.attention
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
    """Steps and values, neighbours averaged where there are more than can be told apart."""
    parts = np.array_split(points, min(len(points), _POINTS))
    steps, values = np.array([part.mean(axis=0) for part in parts]).T
    return steps, values


def _task_lines(axes: Axes, shown: ReportInput) -> None:
    """Where a new task begins."""
    starts: Sequence[float] = [row["step"] for row in shown.curves if "task/index" in row][:-1]
    for step in starts:
        axes.axvline(step, color=INK, linewidth=1.0, linestyle=":", zorder=0.5)


def _words(protocol: str) -> str:
    return protocol.replace("_", "-")
