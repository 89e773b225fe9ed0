"""The style of a report's figures, and what several of them are made of: axes, keys, labels at lines, heat maps.

Text and lines are drawn in one ink colour, which the page replaces by its own, so that a figure reads on white, on
black and on paper. Colours of data are those of Okabe and Ito, which the colour-blind can tell apart; lines differ in
their markers too. A figure is as wide as a column of the page, or a phone, so that its text is shown in about the size
that it was drawn in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator
from numpy.typing import NDArray

from cl_lightning.core.printable import printable
from cl_lightning.report.data import ReportInput

INK = "#111213"
"""Colour of text and axes."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a7a7a", "#b8a600")
MARKERS = "osD^vPX*"
WIDTH, HEIGHT = 4.0, 2.9
"""Size of a figure in inches."""
TEXT, SMALL = 9.0, 8.5
"""Sizes of text in points: on the narrowest phone (360 px) a figure is shown at four fifths of its size, so that the
small one is 9 px there.
"""
_STYLE: dict[Any, Any] = {
    "font.size": TEXT, "axes.titlesize": TEXT, "font.family": "sans-serif", "text.parse_math": False,
    "text.color": INK, "axes.edgecolor": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#808080",
    "grid.alpha": 0.25, "axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none",
    "legend.frameon": False, "legend.fontsize": SMALL, "legend.handlelength": 1.8, "legend.borderpad": 0.1,
    "legend.columnspacing": 1.2, "lines.linewidth": 1.7, "lines.markersize": 4.2,
    "figure.constrained_layout.w_pad": 0.04, "figure.constrained_layout.h_pad": 0.05,
    "axes.prop_cycle": cycler(color=COLOURS),
}  # fmt: skip
_LAYOUT: Literal["constrained"] = "constrained"
_CHARACTER = 0.075
"""Width of a character of the small text in inches, a wide one."""
_LONGEST = 44
"""Largest number of characters of a name in a key."""

Draw = Callable[[ReportInput], Figure | None]


def in_style() -> AbstractContextManager[None]:
    """Return the context in which figures are drawn and written: ticks are chosen by the sizes of text that hold then,
    and not by the user's own settings of matplotlib.
    """
    return mpl.rc_context(dict(mpl.rcParamsDefault) | _STYLE | {"backend": mpl.get_backend()})


def styled(draw: Draw) -> Draw:
    """Return ``draw`` in the report's style. Its figure is laid out once, and not again for each picture of it."""

    def drawn(run: ReportInput) -> Figure | None:
        with in_style():
            figure = draw(run)
            if figure is not None:
                _lay_out(figure)
            return figure

    return drawn


def _lay_out(figure: Figure) -> None:
    engine = figure.get_layout_engine()
    assert engine is not None
    for _ in range(2):  # ticks, and the room that they take, follow from the first layout
        engine.execute(figure)
    figure.set_layout_engine(None)  # it would be carried out again with each picture


def new_axes(wide: float = WIDTH, high: float = HEIGHT) -> tuple[Figure, Axes]:
    """Return a figure of this size in inches and its axes."""
    figure = new_figure(wide, high)
    return figure, figure.add_subplot()


def new_figure(wide: float = WIDTH, high: float = HEIGHT) -> Figure:
    """Return an empty figure of this size in inches."""
    return Figure(figsize=(wide, high), layout=_LAYOUT)


def whole_numbers(axis: Axis, values: Sequence[int], most: int = 12) -> None:
    """Put ticks at whole numbers alone: at the values themselves where there are at most ``most``."""
    few = len(values) <= most
    axis.set_major_locator(FixedLocator(values) if few else MaxNLocator(nbins="auto", integer=True))


def name(text: str) -> str:
    """Return a name as it is written into a figure: in one line, not longer than a key has room for."""
    text = printable(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def key(axes: Axes) -> None:
    """Name the lines of the axes above them: never within, where the names would lie on a curve."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    handles, labels = axes.get_legend_handles_labels()
    wide = _CHARACTER * max(map(len, labels)) + 0.45
    columns = max(1, min(len(labels), int(figure.get_figwidth() / wide)))
    rows = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + 0.17 * (rows - 1))
    figure.legend(handles, labels, loc="outside upper left", ncols=columns)


def labels_at_ends(axes: Axes, lines: Sequence[Line2D], texts: Sequence[str], *, main: bool = False) -> None:
    """Write a text at the right end of each line, connected with it where several ends are too near to each other; that
    of the first one in bold where it is the ``main`` one.

    The y axis must have its final limits.
    """
    low, high = axes.get_ylim()
    ends = [(float(line.get_ydata()[-1]) - low) / (high - low) for line in lines]  # type: ignore[index, arg-type]
    figure = axes.get_figure(root=True)
    assert figure is not None
    heights = spread(ends, 1.35 * SMALL / (72 * figure.get_figheight() * 0.8))
    right = axes.get_xlim()[1]
    for line, end, height, text in zip(lines, ends, heights, texts, strict=True):
        x = (float(line.get_xdata()[-1]) - axes.get_xlim()[0]) / (right - axes.get_xlim()[0])  # type: ignore[index, arg-type]
        axes.plot(
            [x + 0.012, 1.012, 1.03], [end, height, height], transform=axes.transAxes, clip_on=False,
            color=line.get_color(), linewidth=0.9, scalex=False, scaley=False, label="_nolegend_",
        )  # fmt: skip
        weight = "bold" if line is lines[0] and main else "normal"
        axes.text(1.04, height, text, transform=axes.transAxes, va="center", fontsize=SMALL, fontweight=weight)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Return heights in [0, 1] near the wanted ones and at least ``gap`` apart, as far as there is room."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    heights = [wanted[index] for index in order]
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + gap)
    limit = 1.0
    for index in reversed(range(len(heights))):
        heights[index] = min(heights[index], limit)
        limit = heights[index] - gap
    placed = dict(zip(order, heights, strict=True))
    return [placed[index] for index in range(len(wanted))]


def heat_map(
    values: NDArray[np.float64], rows: str, columns: str, unit: str, limits: tuple[float, float], colours: str,
    digits: int,
) -> Figure:  # fmt: skip
    """Draw a square matrix; few values are written into it, many have a scale beside it. NaN stays empty."""
    size = len(values)
    written = size <= 10
    figure, axes = new_axes(WIDTH, 3.5 if written else 3.2)
    colour_map = mpl.colormaps[colours].with_extremes(bad=(0, 0, 0, 0))
    picture = axes.imshow(np.ma.masked_invalid(values), cmap=colour_map, vmin=limits[0], vmax=limits[1])
    axes.set(xlabel=columns, ylabel=rows)
    every = 1 if size <= 12 else -(-size // 10)
    ticks = list(range(0, size, every))
    axes.set_xticks(ticks, [str(tick + 1) for tick in ticks])
    axes.set_yticks(ticks, [str(tick + 1) for tick in ticks])
    axes.grid(visible=False)
    if written:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                _number(axes, column, row, float(value), picture, digits)
    else:
        figure.colorbar(picture, ax=axes, label=unit, shrink=0.85)
    return figure


def _number(axes: Axes, x: int, y: int, value: float, picture: mpl.image.AxesImage, digits: int) -> None:
    red, green, blue, _ = np.asarray(picture.cmap(picture.norm(np.array([value]))))[0]
    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
    text = f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")
    axes.text(x, y, text, ha="center", va="center", fontsize=SMALL, color="#fefefe" if dark else "#020202")
