"""The figures of a report that show what was recognised: each a function of the run that returns ``None`` where the run
has no data for it.
"""

from __future__ import annotations

import math
from itertools import cycle

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cl_lightning.metrics.confusion import reliability
from cl_lightning.report.data import ReportInput
from cl_lightning.report.drawing import (
    COLOURS,
    HEIGHT,
    INK,
    MARKERS,
    WIDTH,
    heat_map,
    key,
    labels_at_ends,
    name,
    new_axes,
    styled,
    whole_numbers,
)
from cl_lightning.report.numbers import (
    after_phases,
    distinct_curves,
    falls,
    main_matrix,
    percent,
    seen_classes,
    task_confusion,
)
from cl_lightning.report.words import hyphenated

_FULL = 102
"""Upper end of an axis of accuracy in %: a point at 100 is whole."""
_LABELLED = 10
"""Largest number of lines with a label each."""


@styled
def accuracy(run: ReportInput) -> Figure:
    """Draw the accuracy on all classes seen, for each protocol and read-out, and the published curve; over the whole
    width of a page.
    """
    return _accuracy(run, 7.6, 3.2)


@styled
def accuracy_narrow(run: ReportInput) -> Figure:
    """Draw the same for a phone."""
    return _accuracy(run, WIDTH, HEIGHT)


def _accuracy(run: ReportInput, wide: float, high: float) -> Figure:
    figure, axes = new_axes(wide, high)
    classes, main = seen_classes(run), run.results["protocol"]["evaluation"]
    lines: list[Line2D] = []
    colours, styles = cycle(COLOURS), cycle((":", "-."))  # dashes are the published curve's
    evaluated = run.results["tasks"][-1]["accuracy"]
    several = len({readout for readouts in evaluated.values() for readout in readouts}) > 1
    for protocol in evaluated:
        style = "-" if protocol == main else next(styles)
        for index, (names, values) in enumerate(distinct_curves(run, protocol)):
            label = name(hyphenated(protocol) + (f", {names}" if several else ""))
            marker = MARKERS[index % len(MARKERS)]
            lines += axes.plot(classes, values, style, marker=marker, color=next(colours), label=label, clip_on=False)
            lines[-1].set(linewidth=1.3 if lines[1:] else 2.2, zorder=2 if lines[1:] else 3)
    published = run.data.published
    if published is not None:
        points = published.accuracy[: len(classes)]
        label = name(f"published: {published.name}")
        lines += axes.plot(classes[: len(points)], points, "--", color=INK, marker="x", label=label, clip_on=False)
    axes.set(xlabel="classes learnt", ylabel="accuracy on all of them in %", ylim=(0, _FULL))
    whole_numbers(axes.xaxis, classes)
    if wide > WIDTH and len(lines) <= _LABELLED and not any(math.isnan(_last(line)) for line in lines):
        labels_at_ends(axes, lines, [f"{line.get_label()}: {_last(line):.1f}" for line in lines], main=len(lines) > 1)
    else:
        key(axes)
    return figure


def _last(line: Line2D) -> float:
    return float(np.asarray(line.get_ydata())[-1])


@styled
def phases(run: ReportInput) -> Figure | None:
    """Draw the accuracy on all classes seen after each phase of each task, and after the task."""
    curves = after_phases(run)
    if not curves:
        return None
    figure, axes = new_axes()
    classes = seen_classes(run)
    *of_phases, whole = curves
    for index, phase in enumerate(of_phases):
        marker, colour = MARKERS[index % 8], COLOURS[index % 8]
        label = name(f"after {phase}")
        axes.plot(classes, curves[phase], linestyle="none", marker=marker, color=colour, label=label, clip_on=False)
    axes.plot(classes, curves[whole], color=INK, linewidth=0.9, zorder=0.9, label=name(f"after the {whole}"))
    axes.set(xlabel="classes learnt", ylabel="accuracy on all of them in %", ylim=(0, _FULL))
    whole_numbers(axes.xaxis, classes)
    key(axes)
    return figure


@styled
def matrix(run: ReportInput) -> Figure:
    """Draw the accuracy matrix as a heat map."""
    R = main_matrix(run)
    square = np.full((len(R), len(R)), np.nan)
    for after, row in enumerate(R):
        square[after, : len(row)] = row
    return heat_map(square, "after task", "accuracy in % on task", "%", (0, 100), "viridis", digits=0)


@styled
def tasks_over_time(run: ReportInput) -> Figure | None:
    """Draw the accuracy on each task over time."""
    R = main_matrix(run)
    if len(R) < 2:
        return None
    figure, axes = new_axes()
    few = len(R) <= len(COLOURS)
    # The ends of the map would not be seen on black, or on white.
    colours = COLOURS if few else mpl.colormaps["viridis"](np.linspace(0.3, 0.85, len(R)))
    lines: list[Line2D] = []
    for task in range(len(R)):
        after = range(task, len(R))
        marker = MARKERS[task % 8] if few else None
        lines += axes.plot(
            [a + 1 for a in after], [R[a][task] for a in after], marker=marker, color=colours[task],
            label=f"task {task + 1}", linewidth=1.5 if few else 0.9, clip_on=False,
        )  # fmt: skip
    axes.set(xlabel="after task", ylabel="accuracy on its test images in %", ylim=(0, _FULL))
    whole_numbers(axes.xaxis, range(1, len(R) + 1))
    measured = [line for line in lines if not math.isnan(_last(line))]
    if few:
        labels_at_ends(axes, measured, [str(line.get_label()) for line in measured])
    else:
        scale = ScalarMappable(Normalize(1, len(R)), ListedColormap(colours))
        bar = figure.colorbar(scale, ax=axes, label="task", shrink=0.85)
        whole_numbers(bar.ax.yaxis, range(1, len(R) + 1))
    return figure


_FEWEST_SLOTS = 5
"""Number of bars that a figure of bars has room for at least: one bar is no wall."""


@styled
def forgetting(run: ReportInput) -> Figure | None:
    """Draw forgetting after each task: best accuracy so far less the present one, mean over old tasks."""
    lost = {after + 1: [fall.points for fall in of_tasks] for after, of_tasks in falls(run).items()}
    if not lost:
        return None
    figure, axes = new_axes()
    means = [float(np.mean(points)) for points in lost.values()]
    bars = axes.bar(list(lost), means, width=0.6, color=COLOURS[1], label="mean over old tasks")
    axes.plot(list(lost), [max(points) for points in lost.values()], "^", color=INK, label="most forgotten task")
    if len(lost) <= _LABELLED:
        # Within the bar, or at its foot: above it, the triangle may be in the way.
        axes.bar_label(bars, [f"{mean:.1f}" for mean in means], label_type="center", fontsize=8.5)
    axes.set(xlabel="after task", ylabel="points of accuracy lost")
    axes.axhline(0, color=INK, linewidth=0.8)
    if not any(value for points in lost.values() for value in points):
        axes.set_ylim(0, 1)  # without forgetting, matplotlib would choose a scale around 0
    middle, half = (min(lost) + max(lost)) / 2, max(_FEWEST_SLOTS, max(lost) - min(lost) + 1) / 2
    axes.set_xlim(middle - half, middle + half)
    axes.xaxis.grid(visible=False)
    whole_numbers(axes.xaxis, list(lost))
    key(axes)
    return figure


@styled
def confusion(run: ReportInput) -> Figure | None:
    """Draw the confusion between tasks."""
    share = task_confusion(run)
    if share is None or len(share) < 2:
        return None
    return heat_map(share, "images of task", "% taken for a class of task", "%", (0, 100), "magma_r", digits=0)


@styled
def calibration(run: ReportInput) -> Figure | None:
    """Draw confidence against accuracy, of old and of new classes."""
    import torch

    counts = run.data.reliability
    if counts is None:
        return None
    figure, axes = new_axes(high=3.2)
    axes.plot([0, 100], [0, 100], color=INK, linewidth=0.8, linestyle="--", label="as sure as right")
    for group, of_bins, marker, colour in zip(("old classes", "new classes"), counts, "os", COLOURS, strict=False):
        calibrated = reliability(torch.from_numpy(of_bins))
        if calibrated.calibration_error is None:
            continue
        points = [
            (percent(c), percent(a), n)
            for c, a, n in zip(calibrated.confidence, calibrated.accuracy, calibrated.images, strict=True)
            if n
        ]
        x, y, sizes = zip(*points, strict=True)
        error = 100 * calibrated.calibration_error
        label = f"{group}: error {error:.1f} points, {sum(sizes):,} images"
        axes.plot(x, y, color=colour, label=label, clip_on=False)
        weights = [8 + 90 * n / max(sizes) for n in sizes]
        axes.scatter(x, y, weights, color=colour, marker=marker, alpha=0.7, clip_on=False)
    axes.set(xlabel="confidence in the answer in %", ylabel="right answers in %", xlim=(0, _FULL), ylim=(0, _FULL))
    key(axes)
    return figure
