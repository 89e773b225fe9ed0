"""Groups of runs that differ in seed and class order alone; a group's name is its method and its distinct settings."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cl_lightning.compare.measured import MeasuredRun
from cl_lightning.compare.select import named, once_each
from cl_lightning.compare.settings import COMPARED, IMAGES, differing, distinct, format_value, value_of


@dataclass(frozen=True)
class Group:
    """Repetitions of one experiment."""

    name: str
    runs: tuple[MeasuredRun, ...]
    differs: Mapping[str, str]
    """Settings in which it differs from other groups, formatted."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """Settings of its runs, as far as the files of any of them have them."""
        return {key: value for run in reversed(self.runs) for key, value in run.settings.items()}

    @property
    def origin(self) -> str:
        """Label of what its method is; several where runs of earlier versions have another one."""
        return " or ".join(sorted({run.origin for run in self.runs}))

    @property
    def question(self) -> Mapping[str, Any]:
        """Settings that must be equal for numbers to be comparable."""
        return {key: value_of(self.settings, key) for key in COMPARED}


def group(
    runs: Sequence[MeasuredRun], differ: Sequence[str] = (), across: Sequence[str] = ()
) -> tuple[list[Group], list[str]]:
    """Return the groups among ``runs``, in the order of their names, and notes on them.

    Args:
        runs: of one question, see ``select.refuse_mixture``.
        differ: keys of the question in which runs do differ; groups differ in them too.
        across: keys of these that the user has asked for; they are part of every group's name.

    Raises:
        UserError: two runs of a group have the same seed and class order, and different results.
    """
    by_run, notes = _group_settings(runs, differ)
    keys = {name: json.dumps(settings, sort_keys=True) for name, settings in by_run.items()}
    runs, again = once_each(runs, keys)
    members: dict[str, list[MeasuredRun]] = {}
    for run in runs:
        members.setdefault(keys[run.name], []).append(run)
    settings = [by_run[members[key][0].name] for key in members]
    names, differs = group_names(settings, across), _differences(settings)
    groups = [
        Group(name, tuple(own), unlike) for name, unlike, own in zip(names, differs, members.values(), strict=True)
    ]
    groups.sort(key=lambda one: one.name)
    return groups, [*notes, *again, *filter(None, map(_of_several_commits, groups))]


def _group_settings(runs: Sequence[MeasuredRun], differ: Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return run -> settings that define its group: all but the common question, and of it the keys in ``differ``.

    A run whose files lack some of it, because its configuration is not there or because it was made before images were
    recorded, belongs to the group that agrees in the rest if there is exactly one, else it is a group of its own. Notes
    name such runs, and groups that saw other images.
    """
    full = {
        run.name: {key: value for key, value in run.settings.items() if key in differ or key not in COMPARED}
        for run in runs
    }
    notes = []
    unseen = [run for run in runs if not set(IMAGES) <= set(run.settings)]
    if unseen:
        _complete(full, unseen, [run for run in runs if run not in unseen], lambda _: set(IMAGES))
        notes.append(
            f"not known which images {named(unseen)} saw, which earlier versions did not record: grouped as if they "
            "were the same"
        )
    lacking = [run for run in runs if not run.from_config]
    if lacking:
        unknown = {key for run in runs for key in run.from_config}
        whole = [run for run in runs if run.from_config]
        _complete(full, lacking, whole, lambda run: unknown | (set(IMAGES) - set(full[run.name])))
        notes.append(
            f"no config.yaml beside the results of {named(lacking)}: options of networks and images are not known of "
            "them"
        )
    return full, notes + _other_images(runs, full)


def _complete(
    full: dict[str, dict[str, Any]],
    lacking: Sequence[MeasuredRun],
    whole: Sequence[MeasuredRun],
    unknown: Callable[[MeasuredRun], set[str]],
) -> None:
    """Let each run that lacks the ``unknown`` keys have the settings of the ``whole`` runs that agree in the rest, if
    these are alike.
    """
    for run in lacking:
        missing = unknown(run)

        def rest(settings: Mapping[str, Any], missing: set[str] = missing) -> str:
            return json.dumps({key: value for key, value in settings.items() if key not in missing}, sort_keys=True)

        own = rest(full[run.name])
        candidates = {
            json.dumps(settings, sort_keys=True): settings
            for settings in (full[other.name] for other in whole)
            if rest(settings) == own
        }
        if len(candidates) == 1:
            full[run.name] = next(iter(candidates.values()))


def _other_images(runs: Sequence[MeasuredRun], full: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a note where runs that agree in everything else were trained on other images."""
    alike: dict[str, dict[str, list[MeasuredRun]]] = {}
    for run in runs:
        settings = full[run.name]
        if "trained_on" in settings:
            rest = json.dumps({key: value for key, value in settings.items() if key not in IMAGES}, sort_keys=True)
            alike.setdefault(rest, {}).setdefault(settings["trained_on"], []).append(run)
    return [
        "other images: " + " and ".join(named(own, 1) for own in by_images.values()) + " were trained on different "
        "ones, so that they are groups of their own (trained_on)"
        for by_images in alike.values()
        if len(by_images) > 1
    ]


def group_names(settings: Sequence[Mapping[str, Any]], across: Sequence[str] = ()) -> list[str]:
    """Name each group: its method, where the question differs, and where several groups share that as few differences
    as distinguish them, each where it deviates from the most common value.
    """
    several = [key for key in across if len(distinct(settings, key)) > 1]
    starts = [
        " ".join([str(one["method"]), *(f"{key}={format_value(key, value_of(one, key))}" for key in several)])
        for one in settings
    ]
    names = _longer_names(starts, settings)
    again = _longer_names(names, settings)  # options of a group that is null in other settings
    for index, name in enumerate(again):
        before = again[:index].count(name)
        names[index] = f"{name} ({before + 1})" if again.count(name) > 1 else name
    return names


def _longer_names(names: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return names with further settings where several groups have the same."""
    more = list(names)
    for name in set(names):
        own = [index for index, other in enumerate(names) if other == name]
        alike = [settings[index] for index in own]
        for key in _naming(differing(alike), alike):
            values = [format_value(key, value_of(one, key)) for one in alike]
            usual = _most_common(values)
            for index, value in zip(own, values, strict=True):
                more[index] += "" if value == usual else f" {key}={value}"
    return more


def _naming(keys: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return those of ``keys``, in turn, that distinguish settings which agree in all keys before."""
    chosen: list[str] = []

    def cells(used: Sequence[str]) -> int:
        return len({json.dumps([value_of(one, key) for key in used], sort_keys=True) for one in settings})

    for key in keys:
        if cells([*chosen, key]) > cells(chosen):
            chosen.append(key)
    return chosen


def _most_common(values: Sequence[str]) -> str | None:
    """Return the most common value; None where two are equally common, and each is named."""
    ranked = Counter(values).most_common(2)
    return None if len(ranked) > 1 and ranked[0][1] == ranked[1][1] else ranked[0][0]


def _differences(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the settings that differ, formatted; a method's options only from those of the same method."""
    common = [key for key in differing(settings) if key != "method" and not key.startswith("method.")]
    differs = []
    for one in settings:
        same = [other for other in settings if other["method"] == one["method"]]
        keys = [*common, *(key for key in differing(same) if key.startswith("method."))]
        differs.append({key: format_value(key, value_of(one, key)) for key in keys})
    return differs


def _of_several_commits(one: Group) -> str | None:
    commits = sorted({run.commit for run in one.runs})
    if len(commits) < 2:
        return None
    return f"the runs of {one.name} were made with {len(commits)} commits: {', '.join(commits)}"
