"""The page of a table and of the runs stored of it.

No number of ours is shown without its configuration, and no published one without its source.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Mapping

from cl_lightning.core.origins import caution
from cl_lightning.metrics.spread import Spread
from cl_lightning.published.stored_results import StoredRun
from cl_lightning.published.tables import METRICS, Cell, Job, Table
from cl_lightning.published.verdict import (
    CellVerdict,
    ContrastVerdict,
    Differ,
    Outcome,
    Status,
    judge_cell,
    judge_contrast,
)
from cl_lightning.report.layout import Block, Grid, Items
from cl_lightning.report.words import counted


def page(table: Table, found: Mapping[Job, StoredRun], differ: Differ, origin: Callable[[Job], str]) -> list[Block]:
    """Return the whole table: our cells and the published ones, contrasts, curves, protocols, what is no target.

    ``origin`` returns the label of what a job's method is beside the paper that it is named after.
    """
    blocks: list[Block] = [table.about, _metrics_line(table), _cells(table, found, differ)]
    if table.contrasts:
        blocks += [_CONTRASTS, _contrasts(table, found, differ), _expected_by(table)]
    blocks += _curves(table, found)
    blocks += ["Protocols:", _protocols(table, origin)]
    blocks += _made(table, found, differ)
    if table.no_target:
        blocks += ["Published, and no target:", Items([f"{what}: {why}." for what, why in table.no_target])]
    return blocks


def count_cells(table: Table, found: Mapping[Job, StoredRun], differ: Differ) -> list[str]:
    """Return the number of cells of each :class:`Status`, in its order."""
    cells = [(key, column) for key, row in table.rows.items() for column in row.cells]
    counts = Counter(judge_cell(table, key, column, found, differ).status for key, column in cells)
    return [str(counts[status]) for status in Status]


_CONTRASTS = (
    "Differences in points, `more` minus `less`, paired over the runs; the interval is Student's, 95 %, each by "
    "itself. Confirmed: it leaves out zero and the difference lies in the range that was expected beforehand; "
    "resolved, either direction was expected: the same, but zero was within that range; unresolved: the "
    "interval holds zero."
)


def _reference(table: Table) -> str:
    return table.reference or "published"


def _cells(table: Table, found: Mapping[Job, StoredRun], differ: Differ) -> Grid:
    banded = any(cell.band for row in table.rows.values() for cell in row.cells.values())
    referred = any(row.reference for row in table.rows.values())
    heads = ["row", "setting", "ours", "runs", "status"]
    if banded:
        heads[2:2] = [_reference(table), "expected band"]
    elif referred:
        heads[2:2] = ["published under another protocol"]
    lines = []
    for key, row in table.rows.items():
        for column, cell in row.cells.items():
            verdict = judge_cell(table, key, column, found, differ)
            runs = f"{verdict.runs} of {len(table.jobs([key], [column]))}"
            line = [row.title, table.columns[column], _ours(table, verdict), runs, _status(verdict)]
            if banded:
                line[2:2] = [_published(table, cell), _band(table, cell)]
            elif referred:
                line[2:2] = [_values(table, row.reference)]
            lines.append(line)
    return Grid(heads, lines)


def _metrics_line(table: Table) -> str:
    metrics = " / ".join(METRICS[metric] for metric in _metrics(table))
    return f"{metrics}, in %; ours are mean ± standard deviation over the runs. (!): outside its band."


def _metrics(table: Table) -> list[str]:
    used = {metric for row in table.rows.values() for cell in row.cells.values() for metric in cell.band}
    return [metric for metric in METRICS if metric in (used or table.metrics)]


def _published(table: Table, cell: Cell) -> str:
    text = _values(table, cell.published)
    if "std" in cell.published:
        text = text.replace(f"{cell.published['avg']:.2f}", f"{cell.published['avg']:.2f} ± {cell.published['std']}", 1)
    others = [f"{_values(table, other)} ({other['source']})" for other in cell.others]
    return "; ".join([text, *others])


def _values(table: Table, values: Mapping[str, float]) -> str:
    return " / ".join(f"{values[metric]:.2f}" if metric in values else "?" for metric in _shown(table, values))


def _shown(table: Table, values: Mapping[str, object]) -> list[str]:
    """Return the table's metrics, usually Avg and Last, and others where they are known."""
    return [metric for metric in METRICS if metric in table.metrics or metric in values]


def _band(table: Table, cell: Cell) -> str:
    return " / ".join(
        f"{cell.band[metric][0]:g} to {cell.band[metric][1]:g}" if metric in cell.band else "?"
        for metric in _shown(table, cell.band)
    )


def _ours(table: Table, verdict: CellVerdict) -> str:
    return " / ".join(
        _spread(verdict.ours[metric]) + ("" if verdict.inside.get(metric, True) else " (!)")
        if metric in verdict.ours
        else "?"
        for metric in (_shown(table, verdict.ours) if verdict.ours else [])
    )


def _spread(value: Spread) -> str:
    return f"{value.mean:.2f}" + ("" if value.std is None else f" ± {value.std:.2f}")


def _status(verdict: CellVerdict) -> str:
    named = f"**{verdict.status}**" if verdict.status is not Status.NOT_RUN else str(verdict.status)
    few = [reason for reason in verdict.reasons if ":" not in reason]
    changed = len(verdict.reasons) - len(few)
    notes = few + ([f"{counted(changed, 'deviation')}, see below"] if changed else [])
    return named + (f" ({'; '.join(notes)})" if notes else "")


def _contrasts(table: Table, found: Mapping[Job, StoredRun], differ: Differ) -> Grid:
    lines = []
    for contrast in table.contrasts.values():
        for column, title in table.columns.items():
            if not all(column in table.rows[row].cells for row in (contrast.more, contrast.less)):
                continue
            verdict = judge_contrast(table, contrast, column, found, differ)
            for metric, (low, high) in contrast.expected.items():
                lines.append(
                    [
                        contrast.question,
                        f"{contrast.more} - {contrast.less}, {title}",
                        METRICS[metric],
                        f"{low:g} to {high:g}",
                        _difference(verdict, metric),
                        _outcome(verdict.outcomes[metric]),
                    ]
                )
    return Grid(["question", "more - less", "metric", "expected", "measured (95 % interval)", "outcome"], lines)


def _expected_by(table: Table) -> Items:
    return Items([f"{contrast.question} Expected by: {contrast.source}" for contrast in table.contrasts.values()])


def _difference(verdict: ContrastVerdict, metric: str) -> str:
    difference = verdict.differences.get(metric)
    if difference is None:
        return ""
    width = difference.half_width
    interval = "one pair" if width is None else f"{difference.mean - width:+.2f} to {difference.mean + width:+.2f}"
    return f"{difference.mean:+.2f} ({interval}; {difference.count} pairs)"


def _outcome(outcome: Outcome) -> str:
    return str(outcome) if outcome is Outcome.NOT_RUN else f"**{outcome}**"


def _curves(table: Table, found: Mapping[Job, StoredRun]) -> list[Block]:
    lines = []
    for key, row in table.rows.items():
        for column, cell in row.cells.items():
            runs = [(job.run, found[job].curve) for job in table.jobs([key], [column]) if job in found]
            if not runs or not cell.band:
                continue
            source = f"{_reference(table)} ({cell.curve_source})"
            published = [(source, cell.curve)] if cell.curve else []
            if cell.main_curve:  # else a run's own are in its report alone
                published.append((f"{source}, before fine-tuning", cell.main_curve))
                runs += [
                    (f"{job.run}, before fine-tuning", curve) for job, curve in _main_curves(table, key, column, found)
                ]
            lines += [
                [row.title, table.columns[column], name, " ".join(f"{value:.1f}" for value in curve)]
                for name, curve in published + runs
            ]
    if not lines:
        return []
    return ["Accuracy in % on all classes seen, after each task:", Grid(["row", "setting", "run", "curve"], lines)]


def _main_curves(
    table: Table, row: str, column: str, found: Mapping[Job, StoredRun]
) -> list[tuple[Job, tuple[float, ...]]]:
    measured = [(job, found[job].main_curve) for job in table.jobs([row], [column]) if job in found]
    return [(job, curve) for job, curve in measured if curve]


def _protocols(table: Table, origin: Callable[[Job], str]) -> Items:
    """Return the published protocols with our commands, and what our methods are."""
    items = []
    for key, row in table.rows.items():
        published = f"{_reference(table)}: {row.protocol}. Source: {row.source} " if row.protocol else ""
        ours = f"Ours{caution(origin(table.jobs([key])[0]))}: {_typed(row.overrides)}"
        items.append(f"**{row.title}**: {published}{ours}")
    settings = [f"{title}: {_typed(table.settings(column))}" for column, title in table.columns.items()]
    runs = "; ".join(f"{run}: {_typed(overrides)}" for run, overrides in table.variations.items())
    return Items([*items, f"Settings: {'; '.join(settings)}", f"Runs: {runs}"])


def _typed(overrides: tuple[str, ...]) -> str:
    return f"`{shlex.join(overrides)}`" if overrides else "nothing more"


def _made(table: Table, found: Mapping[Job, StoredRun], differ: Differ) -> list[Block]:
    """Return the provenance of every run, and its deviations."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for job, run in found.items():
        provenance = run.content["provenance"]
        versions = provenance.get("versions", {})
        state = "" if run.finished else f"; {len(run.curve)} of {run.tasks} tasks"
        deviations = "; ".join(differ(run, job)) or "none"
        made = (
            f"{provenance.get('commit')}",
            f"{provenance.get('device')}",
            f"torch {versions.get('torch')}",
            f"{run.content['protocol']['precision']}",
            f"{deviations}{state}",
        )
        groups.setdefault(made, []).append(
            f"{job.row}/{job.column}/{job.run} ({provenance.get('seconds', 0) / 60:.1f})"
        )
    if not groups:
        return []
    lines = [[", ".join(names), *made] for made, names in groups.items()]
    heads = ["runs (minutes)", "commit", "device", "version", "precision", "deviations from the protocol"]
    return ["Made with:", Grid(heads, lines)]
