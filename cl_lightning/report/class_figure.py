"""The figure of a score: accuracy of each class, and which classes are taken for which.

Legend: C classes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cl_lightning.core.printable import printable
from cl_lightning.report.drawing import COLOURS, INK

_STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.titlesize": 10, "figure.titlesize": 11, "font.family": "sans-serif",
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "text.parse_math": False, "figure.facecolor": "white", "savefig.facecolor": "white",
}  # fmt: skip
_NAMED = 30
"""Largest number of classes that are drawn with their names; of more, bars are numbered and the lowest are named."""
_NUMBERED = 12
"""Largest number of classes whose confusions are written as numbers too."""
_LOWEST = 5
_LONGEST_NAME = 24
_LINE = 100
"""Characters of a line below the numbered bars."""
_BAR = 0.24
"""Height of a named bar in inches."""


@dataclass(frozen=True, eq=False)
class ClassScores:
    """The numbers of the figure, class by class in order of arrival."""

    title: str
    accuracy_title: str
    """Protocol and read-out of the accuracies."""
    names: Sequence[str]
    tasks: Sequence[int]
    """Task of each class, counted from 1."""
    accuracy: Sequence[float | None]
    """In [0, 1]; None without images."""
    macro: float | None
    """Mean of these in [0, 1]."""
    confusion: NDArray[np.int64]
    """(C, C) images of class i that were taken for class j."""


def draw(scores: ClassScores) -> Figure:
    """Draw the bars and the confusion matrix: side by side where classes have names, else one above the other."""
    with mpl.rc_context(dict(mpl.rcParamsDefault) | _STYLE | {"backend": mpl.get_backend()}):
        count = len(scores.names)
        if count <= _NAMED:
            side = min(6.5, max(3.2, 1.6 + _BAR * count))
            figure = Figure(figsize=(4.6 + side + 1.6, max(3.0, side + 0.9)), layout="constrained")
            bars, table = figure.subplots(1, 2, width_ratios=(1, 1.3))
            _named_bars(bars, scores)
        else:
            figure = Figure(figsize=(9.0, 10.5), layout="constrained")
            bars, table = figure.subplots(2, 1, height_ratios=(1, 2.4))
            _numbered_bars(bars, scores)
        _confusion(figure, table, scores)
        figure.suptitle(_cut(scores.title, 110))
        figure.draw_without_rendering()  # text is laid out now, in this style
        return figure


def _percentages(scores: ClassScores) -> list[float]:
    return [np.nan if value is None else 100 * value for value in scores.accuracy]


def _bar_colours(scores: ClassScores) -> list[str]:
    """Return two shades that alternate with the tasks."""
    return [COLOURS[0] if task % 2 else COLOURS[5] for task in scores.tasks]


def _named_bars(axes: Axes, scores: ClassScores) -> None:
    values, places = _percentages(scores), range(len(scores.names))
    axes.barh(places, np.nan_to_num(values), color=_bar_colours(scores), height=0.78)
    for place, value in zip(places, values, strict=True):
        axes.text(103, place, "no images" if np.isnan(value) else f"{value:.0f}", va="center", fontsize=8)
    axes.set_yticks(places, [_cut(name, _LONGEST_NAME) for name in scores.names])
    axes.set_ylim(len(scores.names) - 0.4, -0.6)
    axes.set(xlim=(0, 100), xlabel=f"accuracy in %\n{_macro(scores)}")
    if scores.macro is not None:
        axes.axvline(100 * scores.macro, color=INK, linewidth=1, linestyle="--")
    axes.set_title(_cut(scores.accuracy_title, 50))
    axes.spines[["top", "right"]].set_visible(False)


def _numbered_bars(axes: Axes, scores: ClassScores) -> None:
    values = _percentages(scores)
    places = np.arange(1, len(values) + 1)
    axes.bar(places, np.nan_to_num(values), color=_bar_colours(scores), width=1.0)
    axes.set(xlim=(0.2, len(values) + 0.8), ylim=(0, 100), ylabel="accuracy in %")
    axes.set_xticks(_ticks(len(values)))
    if scores.macro is not None:
        axes.axhline(100 * scores.macro, color=INK, linewidth=1, linestyle="--")
    lowest = sorted((index for index, value in enumerate(values) if not np.isnan(value)), key=lambda at: values[at])
    named = [f"{_cut(scores.names[at], 20)} (class {at + 1}) {values[at]:.0f}" for at in lowest[:_LOWEST]]
    axes.set_xlabel("class, by arrival\n" + textwrap.fill(f"lowest: {', '.join(named)}", _LINE))
    axes.set_title(f"{_cut(scores.accuracy_title, 70)}; {_macro(scores)}")
    axes.spines[["top", "right"]].set_visible(False)


def _macro(scores: ClassScores) -> str:
    shades = "shades alternate with tasks" if len(set(scores.tasks)) > 1 else ""
    mean = "" if scores.macro is None else f"dashed: their mean, {100 * scores.macro:.1f}"
    return "; ".join(filter(None, (mean, shades)))


def _confusion(figure: Figure, axes: Axes, scores: ClassScores) -> None:
    counts = scores.confusion
    with np.errstate(invalid="ignore", divide="ignore"):
        share = 100 * counts / counts.sum(axis=1, keepdims=True)
    colours = mpl.colormaps["magma_r"].with_extremes(bad="#dddddd")  # grey: no images
    picture = axes.imshow(np.ma.masked_invalid(share), cmap=colours, vmin=0, vmax=100, interpolation="nearest")
    count = len(scores.names)
    if count <= _NAMED:
        names = [_cut(name, _LONGEST_NAME) for name in scores.names]
        axes.set_xticks(range(count), names, rotation=90 if max(map(len, names)) > 2 else 0)
        axes.set_yticks(range(count), names)
    else:
        ticks = _ticks(count)
        axes.set_xticks([tick - 1 for tick in ticks], [str(tick) for tick in ticks])
        axes.set_yticks([tick - 1 for tick in ticks], [str(tick) for tick in ticks])
    for place, (one, other) in enumerate(pairwise(scores.tasks)):
        if one != other:
            axes.axhline(place + 0.5, color="#808080", linewidth=0.6)
            axes.axvline(place + 0.5, color="#808080", linewidth=0.6)
    if count <= _NUMBERED:
        _numbers(axes, share, colours)
    axes.set(xlabel="taken for", ylabel="images of class", title="confusions, all of these classes competing")
    figure.colorbar(picture, ax=axes, label="% of the class's images", shrink=0.85)


def _numbers(axes: Axes, share: NDArray[np.float64], colours: Colormap) -> None:
    for (row, column), value in np.ndenumerate(share):
        if np.isfinite(value) and value >= 0.5:
            red, green, blue, _ = np.asarray(colours(value / 100))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
            axes.text(
                column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color="#fefefe" if dark else INK
            )  # fmt: skip


def _ticks(count: int) -> list[int]:
    step = max(10, round(count / 10 / 10) * 10)
    return [1, *range(step, count + 1, step)]


def _cut(text: str, most: int) -> str:
    text = printable(text)
    return text if len(text) <= most else text[: most - 3] + "..."
