"""The page of a comparison: paragraphs, grids and lists for a terminal, Markdown and LaTeX alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby

from cl_lightning.compare.groups import Group
from cl_lightning.compare.measured import METRICS
from cl_lightning.compare.over import Over
from cl_lightning.compare.settings import ABSENT, distinct, format_value, value_of
from cl_lightning.compare.statistics import PAIRED, Difference, Summary
from cl_lightning.core.origins import ORIGINS
from cl_lightning.metrics.spread import Spread
from cl_lightning.report.costs import COSTS, Cost
from cl_lightning.report.layout import Block, Grid, Items

_SHARED = ("data", "tasks", "evaluates_on", "test_images", "model", "memory", "recipe", "epochs", "batch", "precision")
_COLUMNS = 10
"""Largest number of tasks as columns; more are rows."""
_NONE = "n/a"
_WHOLE = "{:,.0f}"


def page(
    summaries: Sequence[Summary],
    differences: Sequence[Difference],
    baseline: Group,
    over: Over | None = None,
    *,
    costs: bool = False,
) -> list[Block]:
    """Return the protocol, numbers, numbers along a setting, differences, curves, and the settings in which the groups
    differ; with ``costs`` also what the runs cost.
    """
    groups = [summary.group for summary in summaries]
    blocks: list[Block] = [_heading(groups), _numbers(summaries), _reading(summaries), *_origins(groups)]
    blocks += _costs(summaries) if costs else []
    if over is not None:
        blocks += _along(over)
    if differences:
        blocks += _differences(differences, baseline)
    blocks += ["Accuracy on all classes seen, after each task:", *_curves(summaries)]
    return [*blocks, "Made with:", _made(groups)]


def how_evaluated(groups: Sequence[Group]) -> str:
    """Return the evaluation, and the read-out where all groups have the same."""
    settings = [group.settings for group in groups]
    evaluation = " and ".join(str(value).replace("_", "-") for value in distinct(settings, "evaluation"))
    readouts = distinct(settings, "readout")
    return f"{evaluation}, {f'{readouts[0]} read-out' if len(readouts) == 1 else 'read-outs as named below'}"


def _heading(groups: Sequence[Group]) -> str:
    settings = [group.settings for group in groups]
    shared = [(key, distinct(settings, key)) for key in _SHARED]
    common = [f"{key}={format_value(key, one[0])}" for key, one in shared if len(one) == 1 and one[0] != ABSENT]
    origins = {group.origin for group in groups}
    common += [f"origin={label}" for label in origins if len(origins) == 1 and label in ORIGINS]
    return f"{how_evaluated(groups).capitalize()}. The same for all: {'; '.join(common)}."


def _shown(summaries: Sequence[Summary]) -> list[str]:
    """Return the metrics that have a column: Macro only where the balance of the test images makes a difference."""
    pairs = [(summary.metrics["last"], summary.metrics["macro"]) for summary in summaries]
    macro = any(a is not None and b is not None and not math.isclose(a.mean, b.mean, rel_tol=1e-9) for a, b in pairs)
    return [metric for metric in METRICS if metric != "macro" or macro]


def _origins(groups: Sequence[Group]) -> list[Block]:
    """Return which groups have a method of which origin, where these are not all of one: a control or an adaptation is
    not what a paper published.
    """
    named: dict[str, list[str]] = {}
    for group in groups:
        named.setdefault(group.origin, []).append(f"`{group.name}`")
    if len(named) < 2:
        return []
    order = sorted(named, key=lambda label: (list(ORIGINS).index(label) if label in ORIGINS else len(ORIGINS), label))
    return ["What the methods are:", Items([f"{_meant(label)}: {', '.join(named[label])}." for label in order])]


def _meant(label: str) -> str:
    return f"{label} ({ORIGINS[label]})" if label in ORIGINS else label


def _numbers(summaries: Sequence[Summary]) -> Grid:
    shown = _shown(summaries)
    lines = [
        [
            f"`{summary.group.name}`",
            str(len(summary.group.runs)),
            *(_spread(summary.metrics[metric], "{:.2f}") for metric in shown),
            _spread(summary.parameters, _WHOLE),
        ]
        for summary in summaries
    ]
    return Grid(["group", "runs", *(METRICS[metric] for metric in shown), "parameters"], lines)


def _costs(summaries: Sequence[Summary]) -> list[Block]:
    """Return what the runs of each group cost on average, a row for each cost that some run has measured."""
    shown = [cost for cost in COSTS if any(summary.costs[cost.name] for summary in summaries)]
    lines = [[cost.heading, *(_cost(summary.costs[cost.name], cost) for summary in summaries)] for cost in shown]
    heads = ["cost", *(f"`{summary.group.name}`" for summary in summaries)]
    return ["What a run cost, the mean of each group; times and memory are those of its machine:", Grid(heads, lines)]


def _cost(value: Spread | None, cost: Cost) -> str:
    return _NONE if value is None else cost.text(value.mean)


def _reading(summaries: Sequence[Summary]) -> str:
    text = (
        "In %, mean ± standard deviation (n - 1) over the runs of a group, which differ in seed and class order alone. "
        "Best Avg first."
    )
    if "macro" in _shown(summaries):
        text += " Macro: Last, each class weighing the same."
    single = [f"`{summary.group.name}`" for summary in summaries if len(summary.group.runs) == 1]
    return f"{text} A single run has no deviation: {', '.join(single)}." if single else text


def _spread(value: Spread | None, form: str) -> str:
    if value is None:
        return _NONE
    if value.std is None or (value.std == 0 and form == _WHOLE):
        return form.format(value.mean)
    return f"{form.format(value.mean)} ± {form.format(value.std)}"


def _along(over: Over) -> list[Block]:
    """Return a grid for Avg and one for Last: series as lines, values of the setting as columns."""
    blocks: list[Block] = []
    heads = [over.key, *(f"{value:g}" for value in over.values)]
    for metric in PAIRED:
        lines = []
        for series in over.series:
            cells = {
                value: _spread(summary.metrics[metric], "{:.2f}")
                for value, summary in zip(series.values, series.summaries, strict=True)
            }
            lines.append([f"`{series.name}`", *(cells.get(value, "") for value in over.values)])
        blocks += [f"{METRICS[metric]} over {over.key}:", Grid(heads, lines)]
    return blocks


def _differences(differences: Sequence[Difference], baseline: Group) -> list[Block]:
    intro = (
        f"Difference from `{baseline.name}`, in points: mean ± standard deviation over pairs of runs with the same "
        "seed and class order, and the 95 % interval of the mean by Student's t, each by itself."
    )
    heads = ["group", "pairs", *(heading for metric in PAIRED for heading in (METRICS[metric], "95 % interval"))]
    lines = []
    for difference in differences:
        if difference.pairs:
            cells = [cell for metric in PAIRED for cell in _points(difference.metrics[metric])]
            lines.append([f"`{difference.group.name}`", str(difference.pairs), *cells])
    blocks: list[Block] = [intro]
    if lines:
        blocks.append(Grid(heads, lines))
    why = [f"`{difference.group.name}`: {difference.why}." for difference in differences if difference.why]
    return [*blocks, Items(why)] if why else blocks


def _points(value: Spread) -> tuple[str, str]:
    width = value.half_width
    if value.std is None or width is None:
        return f"{value.mean:+.2f}", "none for one pair"
    return f"{value.mean:+.2f} ± {value.std:.2f}", f"{value.mean - width:+.2f} to {value.mean + width:+.2f}"


def _curves(summaries: Sequence[Summary]) -> list[Block]:
    """Return a grid for each sequence of classes seen: groups as lines, or as columns where there are many tasks."""
    blocks: list[Block] = []
    by_classes: Callable[[Summary], tuple[int, ...]] = lambda summary: summary.classes_seen  # noqa: E731
    for seen, together in groupby(sorted(summaries, key=by_classes), by_classes):
        own = list(together)
        names = [f"`{summary.group.name}`" for summary in own]
        cells = [[_spread(value, "{:.1f}") for value in summary.curve] for summary in own]
        if len(seen) <= _COLUMNS:
            lines = [[name, *line] for name, line in zip(names, cells, strict=True)]
            blocks.append(Grid(["classes seen", *map(str, seen)], lines))
        else:
            lines = [[str(number), *line] for number, line in zip(seen, zip(*cells, strict=True), strict=True)]
            blocks.append(Grid(["classes seen", *names], lines))
    return blocks


def _made(groups: Sequence[Group]) -> Items:
    return Items([f"`{group.name}`: {'; '.join(_facts(group))}." for group in groups])


def _facts(group: Group) -> list[str]:
    seeds = sorted({run.seed for run in group.runs})
    orders = sorted({run.order for run in group.runs})
    commits = sorted({run.commit for run in group.runs})
    return [
        *(f"{key}={value}" for key, value in group.differs.items()),
        f"{_plural('seed', seeds)} {', '.join(map(str, seeds))}",
        f"{_plural('class order', orders)} {', '.join(orders)}",
        f"{_plural('commit', commits)} {', '.join(commits)}",
    ]


def _plural(word: str, items: Sequence[object]) -> str:
    return word if len(items) == 1 else f"{word}s"


def question(group: Group) -> str:
    """Return the question of a group for a title: data, tasks and evaluation images."""
    shown = [f"{key}={format_value(key, value_of(group.settings, key))}" for key in ("data", "tasks", "evaluates_on")]
    return "; ".join(shown)
