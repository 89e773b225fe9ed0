"""Groups of a comparison along a numeric setting: a series for each experiment that differs in more than that."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cl_lightning.compare.groups import Group, group_names
from cl_lightning.compare.measured import MeasuredRun
from cl_lightning.compare.select import did_you_mean, named
from cl_lightning.compare.settings import COMPARED, distinct, value_of
from cl_lightning.compare.statistics import Summary
from cl_lightning.core.errors import UserError

_NEVER_FOLLOWS = ("method", "readout", "tasks_done")


@dataclass(frozen=True)
class Series:
    """Groups that differ in one setting alone, and in what changes with it."""

    name: str
    values: tuple[float, ...]
    """Values of the setting, ascending."""
    summaries: tuple[Summary, ...]
    """Summary of the group at each of these."""


@dataclass(frozen=True)
class Over:
    """All series along the setting ``key``."""

    key: str
    series: tuple[Series, ...]

    @property
    def values(self) -> list[float]:
        """Values of the setting in any series, ascending."""
        return sorted({value for one in self.series for value in one.values})

    def value(self, group: Group) -> float:
        """Return a group's value of the setting."""
        return next(
            value
            for one in self.series
            for value, summary in zip(one.values, one.summaries, strict=True)
            if summary.group is group
        )


def along(key: str, summaries: Sequence[Summary], across: Sequence[str] = ()) -> tuple[Over, list[str]]:
    """Return the series along ``key``, and notes on what else changes with it.

    Settings that have one value wherever ``key`` has one value follow it (``memory`` says the size in words); all
    others tell series apart. ``across`` are keys that the question may differ in.

    Raises:
        UserError: no run has the setting, it is no number, or no two groups differ in it alone.
    """
    value_of_group = {summary.group.name: _value(key, summary.group, summaries) for summary in summaries}
    values = [value_of_group[summary.group.name] for summary in summaries]
    if len(set(values)) < 2:
        raise UserError(f"--over {key}: all runs have {values[0]:g}, so there is nothing to draw over it")
    settings = [
        {name: value for name, value in summary.group.settings.items() if name not in COMPARED or name in across}
        for summary in summaries
    ]
    follow = _followers(values, settings) | {key}
    rest = [{name: value for name, value in one.items() if name not in follow} for one in settings]
    keys = [json.dumps(one, sort_keys=True) for one in rest]
    unique = list(dict.fromkeys(keys))
    names = group_names([rest[keys.index(one)] for one in unique], across)
    made = []
    for name, own in zip(names, unique, strict=True):
        members = sorted(
            (pair for pair, other in zip(zip(values, summaries, strict=True), keys, strict=True) if other == own),
            key=lambda pair: pair[0],
        )
        made.append(Series(name, tuple(value for value, _ in members), tuple(summary for _, summary in members)))
    if all(len(series.values) < 2 for series in made):
        raise UserError(
            f"--over {key}: no two groups differ in it and are alike in the rest: type --only KEY=VALUE to leave some "
            "out, or make runs with -m that differ in it"
        )
    varies = {name for one in unique for name in follow if len(distinct(_of(one, keys, settings), name)) > 1}
    also = sorted(varies - {key, *_words(key)})  # what differs between series alone is in their names
    notes = [f"with {key} these change too, and are not told apart from it: {', '.join(also)}"] if also else []
    return Over(key, tuple(made)), notes


def _of(series: str, keys: Sequence[str], settings: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the settings of the groups of a series."""
    return [one for one, key in zip(settings, keys, strict=True) if key == series]


def _followers(values: Sequence[float], settings: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the settings that differ, and have one value wherever ``values`` are equal."""
    found = set()
    for name in {name for one in settings for name in one} - set(_NEVER_FOLLOWS):
        own = [
            distinct([one for value, one in zip(values, settings, strict=True) if value == at], name)
            for at in set(values)
        ]
        if len(distinct(settings, name)) > 1 and all(len(each) == 1 for each in own):
            found.add(name)
    return found


def _words(key: str) -> tuple[str, ...]:
    """Return the settings that say a key in other words."""
    said = {"memory.size": ("memory",), "epochs_scale": ("epochs",), "balanced_epochs_scale": ("epochs",)}
    return said.get(key, ("batch",) if key == "batch.size" else ("epochs",) if key.endswith(".epochs") else ())


def _value(key: str, group: Group, summaries: Sequence[Summary]) -> float:
    found = distinct([run.options for run in group.runs], key)
    if len(found) > 1:
        raise UserError(f"--over {key} is not possible: runs of {group.name} are repetitions that differ in it")
    (value,) = found
    if isinstance(value, bool) or not isinstance(value, int | float):
        runs = [run for summary in summaries for run in summary.group.runs]
        lacking = [run for run in group.runs if key not in run.options]
        what = f"{named(lacking, 1)} has none" if lacking else f"it is {value} in {named(group.runs, 1)}"
        raise UserError(f"--over {key}: {what}{did_you_mean(key, _numeric(runs))}")
    return float(value)


def _numeric(runs: Sequence[MeasuredRun]) -> list[str]:
    """Return the numeric settings in which runs differ."""
    options = [run.options for run in runs]
    return [
        name
        for name in sorted({name for one in options for name in one} - {"seed"})
        if len(distinct(options, name)) > 1 and all(type(value_of(one, name)) in (int, float) for one in options)
    ]
