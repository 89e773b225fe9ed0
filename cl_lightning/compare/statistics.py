"""Statistics of groups: mean and deviation of each metric, and differences over the runs that two groups share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cl_lightning.compare.groups import Group
from cl_lightning.compare.measured import METRICS, MeasuredRun
from cl_lightning.compare.select import did_you_mean
from cl_lightning.compare.settings import ABSENT
from cl_lightning.core.errors import UserError
from cl_lightning.metrics.spread import Spread, spread
from cl_lightning.report.costs import COSTS

PAIRED = ("avg", "last")
"""Metrics whose differences are taken."""


@dataclass(frozen=True)
class Summary:
    """The statistics of a group over its runs."""

    group: Group
    metrics: Mapping[str, Spread | None]
    """Metric -> mean and deviation; None where it applies to no run."""
    parameters: Spread | None
    """Number of the network's parameters after the last task."""
    curve: tuple[Spread, ...]
    """Accuracy in % on all classes seen, after each task."""
    classes_seen: tuple[int, ...]
    costs: Mapping[str, Spread | None]
    """Cost, of ``report.costs``, -> mean and deviation; None where no run of the group has measured it."""


@dataclass(frozen=True)
class Difference:
    """The difference of a group and the baseline, over pairs of runs with the same seed and class order, in points."""

    group: Group
    metrics: Mapping[str, Spread]
    """Metric of :data:`PAIRED` -> its difference; empty where there is no pair."""
    pairs: int
    why: str
    """Reason why there is no pair, or a run without one."""


def summarise(groups: Sequence[Group]) -> list[Summary]:
    """Return the statistics of each group, by average incremental accuracy from the best, then by name."""
    summaries = [_summary(group) for group in groups]
    return sorted(summaries, key=lambda one: (-_mean(one.metrics["avg"]), one.group.name))


def _summary(group: Group) -> Summary:
    runs = group.runs
    return Summary(
        group=group,
        metrics={name: _spread([run.numbers.get(name) for run in runs]) for name in METRICS},
        parameters=_spread([run.parameters for run in runs]),
        curve=tuple(spread(values) for values in zip(*(run.curve for run in runs), strict=True)),
        classes_seen=runs[0].classes_seen,
        costs={cost.name: _spread([run.costs.get(cost.name) for run in runs]) for cost in COSTS},
    )


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return spread(known) if known else None


def _mean(value: Spread | None) -> float:
    return float("-inf") if value is None else value.mean


def baseline_among(groups: Sequence[Group], name: str | None) -> Group:
    """Return the group of that name, or the first by name of those that are finished.

    The default does not depend on the numbers, so that further runs do not change it.

    Raises:
        UserError: there is no such group.
    """
    names = [group.name for group in sorted(groups, key=lambda one: (not one.runs[0].finished, one.name))]
    wanted = names[0] if name is None else name
    if wanted not in names:
        raise UserError(f'--baseline "{wanted}" is none of the groups{did_you_mean(wanted, names)}')
    return next(group for group in groups if group.name == wanted)


def differences(groups: Sequence[Group], baseline: Group) -> list[Difference]:
    """Return every other group's difference to ``baseline``, in the order of ``groups``."""
    return [_difference(group, baseline) for group in groups if group is not baseline]


def _difference(group: Group, baseline: Group) -> Difference:
    ours, against = group.question, baseline.question
    other = [key for key in ours if ABSENT not in (ours[key], against[key]) and ours[key] != against[key]]
    if other:
        return Difference(group, {}, 0, f"no difference is taken, as {other[0]} is another")
    if group.settings["tasks_done"] != baseline.settings["tasks_done"]:
        return Difference(group, {}, 0, "no difference is taken between runs of which other tasks are done")
    theirs = {run.repeat: run for run in baseline.runs}
    pairs = [(run, theirs[run.repeat]) for run in group.runs if run.repeat in theirs]
    metrics = {
        name: spread([run.numbers[name] - other.numbers[name] for run, other in pairs]) for name in PAIRED if pairs
    }
    return Difference(group, metrics, len(pairs), _why(group, baseline, len(pairs)))


def _why(group: Group, baseline: Group, pairs: int) -> str:
    if not pairs:
        return (
            f"no difference is taken, as no seed and class order is in both: {_repeats(group.runs)} here, "
            f"{_repeats(baseline.runs)} in {baseline.name}"
        )
    single = len(group.runs) + len(baseline.runs) - 2 * pairs
    return (
        f"runs without a partner of the same seed and class order, in one of the two groups: {single}" if single else ""
    )


def _repeats(runs: Sequence[MeasuredRun]) -> str:
    shown = sorted({(run.seed, run.order) for run in runs})
    text = ", ".join(f"seed {seed} order {order}" for seed, order in shown[:4])
    return text + (" ..." if len(shown) > 4 else "")
