"""Verdicts of stored runs on a table: each cell against its band, each contrast against its expected range.

A cell is *verified* only if all its runs are finished, were made under exactly the cell's own configuration, and the
mean of every metric lies in its band, which is of published values; anything less has another status.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from cl_lightning.metrics.spread import Spread, spread
from cl_lightning.published.stored_results import StoredRun
from cl_lightning.published.tables import Contrast, Job, Range, Table


class Status(StrEnum):
    """The status of a cell."""

    VERIFIED = "verified"
    """Complete, and inside every band."""
    AS_BEFORE = "as before"
    """Complete, and inside every band of values that were not published: they are from an earlier version."""
    OUTSIDE = "outside its band"
    """Complete, and outside a band."""
    COMPLETE = "complete"
    """Complete, and nothing comparable was published."""
    PARTIAL = "partial"
    """Runs or tasks are missing, or were made under another configuration."""
    NOT_RUN = "not run"


class Outcome(StrEnum):
    """The outcome of a contrast."""

    CONFIRMED = "confirmed"
    """The interval leaves out zero and the difference lies in the expected range, which allows one direction alone."""
    ALLOWED = "resolved, either direction was expected"
    """The same, where zero lies within the expected range: the direction was not foretold."""
    OTHER_SIZE = "resolved, not in the expected range"
    UNRESOLVED = "unresolved"
    """The interval holds zero, or there is one pair, which has no spread."""
    PARTIAL = "partial"
    """Pairs are missing; the interval is that of the others."""
    NOT_RUN = "not run"


@dataclass(frozen=True)
class CellVerdict:
    """The verdict on a cell."""

    status: Status
    ours: Mapping[str, Spread]
    """Metric -> mean and spread of the finished runs under one configuration; empty where there is none."""
    inside: Mapping[str, bool]
    """Metric -> True if the mean lies in its band."""
    reasons: Sequence[str]
    """Reasons why it is partial."""
    runs: int = 0
    """Number of runs in the mean."""


@dataclass(frozen=True)
class ContrastVerdict:
    """The verdict on a contrast, by metric."""

    outcomes: Mapping[str, Outcome]
    differences: Mapping[str, Spread]


Differ = Callable[[StoredRun, Job], Sequence[str]]
"""(stored run, job) -> values in which the run's configuration differs from the job's."""


def judge_cell(table: Table, row: str, column: str, found: Mapping[Job, StoredRun], differ: Differ) -> CellVerdict:
    """Judge a cell of ``table`` by the stored runs."""
    cell = table.rows[row].cells[column]
    jobs = table.jobs([row], [column])
    reasons: list[str] = []
    groups: dict[tuple[str, ...], list[StoredRun]] = {}
    for job in jobs:
        if job not in found:
            continue
        run = found[job]
        if not run.finished:
            reasons.append(f"{job.run}: {len(run.curve)} of {run.tasks} tasks")
            continue
        deviations = tuple(differ(run, job))
        groups.setdefault(deviations, []).append(run)
        reasons += [f"{job.run}: {difference}" for difference in deviations]
    if not groups and not reasons:
        return CellVerdict(Status.NOT_RUN, {}, {}, [])
    alike = _alike(groups)
    if len(alike) < len(jobs):
        reasons.insert(0, f"{len(alike)} of {len(jobs)} runs")
    metrics = list(cell.band) or list(table.metrics)
    ours = {metric: spread([run.metrics[metric] for run in alike]) for metric in metrics} if alike else {}
    inside = {metric: low <= ours[metric].mean <= high for metric, (low, high) in cell.band.items() if metric in ours}
    return CellVerdict(_status(reasons, inside, table.reference), ours, inside, reasons, len(alike))


def _alike(groups: Mapping[tuple[str, ...], list[StoredRun]]) -> list[StoredRun]:
    """Return the runs that a mean may be taken of: those without a deviation, else most that have the same ones."""
    return groups.get((), []) or max(groups.values(), key=len, default=[])


def _status(reasons: Sequence[str], inside: Mapping[str, bool], reference: str) -> Status:
    if reasons:
        return Status.PARTIAL
    if not inside:
        return Status.COMPLETE
    if not all(inside.values()):
        return Status.OUTSIDE
    return Status.AS_BEFORE if reference else Status.VERIFIED


def judge_contrast(
    table: Table, contrast: Contrast, column: str, found: Mapping[Job, StoredRun], differ: Differ
) -> ContrastVerdict:
    """Judge a contrast by the runs that are finished, under their own configuration, on both sides."""
    good = {
        (job.row, job.run): run.metrics
        for job in table.jobs([contrast.more, contrast.less], [column])
        if (run := found.get(job)) is not None and run.finished and not differ(run, job)
    }
    wanted = [run for run in table.rows[contrast.more].runs if run in table.rows[contrast.less].runs]
    pairs = [run for run in wanted if {(contrast.more, run), (contrast.less, run)} <= set(good)]
    differences = {
        metric: spread([good[contrast.more, run][metric] - good[contrast.less, run][metric] for run in pairs])
        for metric in contrast.expected
        if pairs
    }
    whole = len(pairs) == len(wanted)
    outcomes = {
        metric: _outcome(differences.get(metric), expected, whole) for metric, expected in contrast.expected.items()
    }
    return ContrastVerdict(outcomes, differences)


def _outcome(difference: Spread | None, expected: Range, whole: bool) -> Outcome:
    if difference is None:
        return Outcome.NOT_RUN
    if not whole:
        return Outcome.PARTIAL
    width = difference.half_width
    if width is None or abs(difference.mean) <= width:
        return Outcome.UNRESOLVED
    low, high = expected
    if not low <= difference.mean <= high:
        return Outcome.OTHER_SIZE
    return Outcome.ALLOWED if low < 0 < high else Outcome.CONFIRMED
