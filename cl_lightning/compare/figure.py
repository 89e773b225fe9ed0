"""The figure with the curves of all groups, readable without colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cl_lightning.compare.page import how_evaluated, question
from cl_lightning.compare.statistics import Summary

if TYPE_CHECKING:  # heavy
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW = 5
"""Largest group whose runs are drawn one by one."""

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
"""Okabe and Ito's palette, which colour-blind readers can distinguish."""
_MARKERS = "osD^vPX*"
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def draw(summaries: Sequence[Summary]) -> Figure:
    """Draw accuracy over the number of classes seen: for each group its mean, a band of one standard deviation, and its
    runs as thin lines where they are few.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.2 + 0.18 * max(0, len(summaries) - 2)), layout="constrained")
    axes = figure.add_subplot()
    for index, summary in enumerate(summaries):
        _draw(axes, summary, index)
    questions = list(dict.fromkeys(question(summary.group) for summary in summaries))
    axes.set_title(questions[0] if len(questions) == 1 else "several protocols, see the legend", fontsize=10)
    axes.set_xlabel("classes seen")
    axes.set_ylabel(f"accuracy in %, {how_evaluated([summary.group for summary in summaries]).partition(',')[0]}")
    ticks = sorted({seen for summary in summaries for seen in summary.classes_seen})
    axes.set_xticks(ticks[:: -(-len(ticks) // 12)])
    axes.set_ylim(0, 103)
    axes.grid(alpha=0.3, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    repeated = [len(summary.group.runs) for summary in summaries if len(summary.group.runs) > 1]
    note = "line: mean; band: one standard deviation" if repeated else "one run each"
    note += "; thin: each run" if any(runs <= FEW for runs in repeated) else ""
    figure.legend(loc="outside lower center", handlelength=4, fontsize=9, frameon=False, title=note, title_fontsize=8)
    return figure


def _draw(axes: Axes, summary: Summary, index: int) -> None:
    colour, line = _COLOURS[index % len(_COLOURS)], _LINES[index % len(_LINES)]
    marker, runs = _MARKERS[index % len(_MARKERS)], summary.group.runs
    seen = list(summary.classes_seen)
    mean = [value.mean for value in summary.curve]
    if len(runs) > 1:
        std = [value.std or 0.0 for value in summary.curve]
        low = [max(0.0, centre - width) for centre, width in zip(mean, std, strict=True)]
        high = [min(100.0, centre + width) for centre, width in zip(mean, std, strict=True)]
        axes.fill_between(seen, low, high, color=colour, alpha=0.15, linewidth=0)
        for run in runs if len(runs) <= FEW else ():
            axes.plot(seen, run.curve, color=colour, linewidth=0.6, alpha=0.6)
    label = f"{summary.group.name} (n = {len(runs)})".replace("$", r"\$")  # a dollar would begin a formula
    axes.plot(seen, mean, color=colour, linestyle=line, marker=marker, markersize=5, linewidth=1.8, label=label)
