"""A comparison as text for a terminal, Markdown, LaTeX (booktabs) or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cl_lightning.compare.groups import Group
from cl_lightning.compare.measured import METRICS
from cl_lightning.compare.over import Over
from cl_lightning.compare.page import page
from cl_lightning.compare.settings import format_value, value_of
from cl_lightning.compare.statistics import PAIRED, Difference, Summary
from cl_lightning.core.csv_cells import cell
from cl_lightning.metrics.spread import Spread
from cl_lightning.report.costs import COSTS
from cl_lightning.report.layout import Block, Grid, Items, as_markdown, as_text

FORMATS = {"table": ".txt", "markdown": ".md", "latex": ".tex", "csv": ".csv"}
"""Format -> suffix of its files."""

_SETTINGS = (
    "method",
    "data",
    "classes",
    "tasks",
    "tasks_done",
    "evaluates_on",
    "evaluation",
    "readout",
    "model",
    "memory",
    "memory_scope",
    "recipe",
    "replicas",
    "batch",
    "precision",
    "epochs",
    "lr_scale",
    "augmentation",
    "balance",
    "early_stopping",
)
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


@dataclass(frozen=True)
class Comparison:
    """The comparison of groups: summaries, differences and the baseline."""

    summaries: Sequence[Summary]
    """Best first."""
    differences: Sequence[Difference]
    baseline: Group
    costs: bool = False
    """True to show what runs cost, too."""
    over: Over | None = None
    """The same groups along a numeric setting."""


def render(comparison: Comparison, form: str, width: int) -> str:
    """Return the whole text in one of :data:`FORMATS`; ``width`` is that of the terminal."""
    if form == "csv":
        return as_csv(comparison)
    summaries, differences = comparison.summaries, comparison.differences
    blocks = page(summaries, differences, comparison.baseline, comparison.over, costs=comparison.costs)
    match form:
        case "markdown":
            return as_markdown(blocks)
        case "latex":
            return as_latex(blocks)
        case _:
            return as_text(blocks, width)


def as_latex(blocks: Sequence[Block]) -> str:
    """Return paragraphs, ``tabular`` environments with booktabs' rules, and lists."""
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(_latex(block) for block in blocks) + "\n"


def _latex(block: Block) -> str:
    match block:
        case str():
            return f"\\noindent {_escaped(block)}"
        case Items(items):
            return "\n".join(["\\begin{itemize}", *(f"  \\item {_escaped(item)}" for item in items), "\\end{itemize}"])
        case Grid(heads, lines):
            rows = [f"{' & '.join(map(_escaped, line))} \\\\" for line in [heads, *lines]]
            columns = "l" + "r" * (len(heads) - 1)
            inner = ["\\toprule", rows[0], "\\midrule", *rows[1:], "\\bottomrule"]
            return "\n".join([f"\\begin{{tabular}}{{{columns}}}", *inner, "\\end{tabular}"])


def _escaped(text: str) -> str:
    signed = re.sub(r"(?<![\w}])-(?=\d)", "\0", text)
    parts = [re.sub(r"[\\~^<>±&%$#_{}]", lambda match: _SPECIAL[match[0]], part) for part in signed.split("`")]
    marked = [f"\\texttt{{{part}}}" if index % 2 else part for index, part in enumerate(parts)]
    return "".join(marked).replace("\0", "$-$").replace("**", "")


def as_csv(comparison: Comparison) -> str:
    """Return a line for each group: settings, means and deviations, differences, accuracies after each task. In % or
    points; a cell is empty where it does not apply.
    """
    rows = [dict(_cells(comparison, summary)) for summary in comparison.summaries]
    tasks = max(len(summary.curve) for summary in comparison.summaries)
    curve = [f"after_task_{task}_{part}" for task in range(1, tasks + 1) for part in ("mean", "std")]
    heads = list(dict.fromkeys(name for row in rows for name in row if name not in curve)) + curve
    text = io.StringIO()
    writer = csv.DictWriter(text, heads, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cells(comparison: Comparison, summary: Summary) -> Iterator[tuple[str, str]]:
    group = summary.group
    yield "group", group.name
    yield "runs", str(len(group.runs))
    for metric in METRICS:
        yield from _mean_and_std(metric, summary.metrics[metric])
    yield from _mean_and_std("parameters", summary.parameters)
    for cost in COSTS if comparison.costs else ():
        if cost.name != "parameters":
            yield from _mean_and_std(cost.name, summary.costs[cost.name])
    yield "baseline", comparison.baseline.name
    difference = next((one for one in comparison.differences if one.group is group), None)
    yield "pairs", "" if difference is None else str(difference.pairs)
    for metric in PAIRED:
        value = None if difference is None else difference.metrics.get(metric)
        yield from _mean_and_std(f"{metric}_difference", value)
        width = None if value is None else value.half_width
        yield f"{metric}_difference_low", "" if value is None or width is None else _number(value.mean - width)
        yield f"{metric}_difference_high", "" if value is None or width is None else _number(value.mean + width)
    yield "origin", group.origin
    if comparison.over is not None:
        yield comparison.over.key, f"{comparison.over.value(group):g}"
    for key in dict.fromkeys((*_SETTINGS, *group.differs)):
        if comparison.over is not None and key == comparison.over.key:
            continue
        yield key, format_value(key, value_of(group.settings, key))
    yield "seeds", " ".join(map(str, sorted({run.seed for run in group.runs})))
    yield "orders", " ".join(sorted({run.order for run in group.runs}))
    yield "commits", " ".join(sorted({run.commit for run in group.runs}))
    for task, value in enumerate(summary.curve, 1):
        yield from _mean_and_std(f"after_task_{task}", value)


def _mean_and_std(name: str, value: Spread | None) -> Iterator[tuple[str, str]]:
    yield f"{name}_mean", "" if value is None else _number(value.mean)
    yield f"{name}_std", "" if value is None or value.std is None else _number(value.std)


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
