"""Runs that differ in seed and class order alone form a group; its name is its method, and what sets it apart."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cl_lightning.compare.measured import MeasuredRun
from cl_lightning.compare.select import named, once_each
from cl_lightning.compare.settings import COMPARED, IMAGES, differing, distinct, value_of, words


@dataclass(frozen=True)
class Group:
    """Repetitions of one experiment."""

    name: str
    runs: tuple[MeasuredRun, ...]
    differs: Mapping[str, str]
    """What sets it apart from other groups, in words."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What its runs were made under, as far as the files of any of them tell."""
        return {key: value for run in reversed(self.runs) for key, value in run.settings.items()}

    @property
    def question(self) -> Mapping[str, Any]:
        """The part of it that makes numbers comparable."""
        return {key: value_of(self.settings, key) for key in COMPARED}


def group(
    runs: Sequence[MeasuredRun], differ: Sequence[str] = (), across: Sequence[str] = ()
) -> tuple[list[Group], list[str]]:
    """The groups among ``runs``, in the order of their names, and lines that tell what to know of them.

    Args:
        runs: answers to one question, see ``select.refuse_mixture``.
        differ: in what the question does differ; groups differ in it too.
        across: what of it the user has asked for; it is part of every group's name.

    Raises:
        UserError: two runs of a group have the same seed and class order, and different results.
    """
    kept, notes = _told_apart(runs, differ)
    keys = {name: json.dumps(settings, sort_keys=True) for name, settings in kept.items()}
    runs, again = once_each(runs, keys)
    members: dict[str, list[MeasuredRun]] = {}
    for run in runs:
        members.setdefault(keys[run.name], []).append(run)
    settings = [kept[members[key][0].name] for key in members]
    names, tells = _names(settings, across), _tells(settings)
    groups = [Group(name, tuple(own), told) for name, told, own in zip(names, tells, members.values(), strict=True)]
    groups.sort(key=lambda one: one.name)
    return groups, [*notes, *again, *filter(None, map(_of_several_commits, groups))]


def _told_apart(runs: Sequence[MeasuredRun], differ: Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Run -> what makes its group: all but the question, which is common, save for what differs in it.

    A run whose files lack some of it, because its configuration is not there or because it was made before images were
    recorded, belongs to the group that agrees in the rest, if that is one, and else stands for itself. Lines tell of
    such runs, and of groups that saw other images.
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
        left = unknown(run)

        def rest(settings: Mapping[str, Any], left: set[str] = left) -> str:
            return json.dumps({key: value for key, value in settings.items() if key not in left}, sort_keys=True)

        own = rest(full[run.name])
        candidates = {
            json.dumps(settings, sort_keys=True): settings
            for settings in (full[other.name] for other in whole)
            if rest(settings) == own
        }
        if len(candidates) == 1:
            full[run.name] = next(iter(candidates.values()))


def _other_images(runs: Sequence[MeasuredRun], full: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line where runs that agree in everything else were trained on other images."""
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


def _names(settings: Sequence[Mapping[str, Any]], across: Sequence[str]) -> list[str]:
    """A name each: the method, in what the question differs, and where that is several groups' as few differences as
    tell them apart, each where it deviates from the most common value.
    """
    several = [key for key in across if len(distinct(settings, key)) > 1]
    starts = [
        " ".join([str(one["method"]), *(f"{key}={words(key, value_of(one, key))}" for key in several)])
        for one in settings
    ]
    names = _told_more(starts, settings)
    again = _told_more(names, settings)  # options of what is null elsewhere tell apart where it is not
    for index, name in enumerate(again):
        before = again[:index].count(name)
        names[index] = f"{name} ({before + 1})" if again.count(name) > 1 else name
    return names


def _told_more(names: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names that say more, where several settings have one."""
    more = list(names)
    for name in set(names):
        own = [index for index, other in enumerate(names) if other == name]
        here = [settings[index] for index in own]
        for key in _naming(differing(here), here):
            values = [words(key, value_of(one, key)) for one in here]
            usual = _most_common(values)
            for index, value in zip(own, values, strict=True):
                more[index] += "" if value == usual else f" {key}={value}"
    return more


def _naming(keys: Sequence[str], settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Those of ``keys``, in turn, that tell settings apart which those before left together."""
    chosen: list[str] = []

    def cells(used: Sequence[str]) -> int:
        return len({json.dumps([value_of(one, key) for key in used], sort_keys=True) for one in settings})

    for key in keys:
        if cells([*chosen, key]) > cells(chosen):
            chosen.append(key)
    return chosen


def _most_common(values: Sequence[str]) -> str | None:
    """None where two values are equally common: then each is told."""
    ranked = Counter(values).most_common(2)
    return None if len(ranked) > 1 and ranked[0][1] == ranked[1][1] else ranked[0][0]


def _tells(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """All that differs, in words; a method's options only from those of the same method."""
    common = [key for key in differing(settings) if key != "method" and not key.startswith("method.")]
    tells = []
    for one in settings:
        same = [other for other in settings if other["method"] == one["method"]]
        keys = [*common, *(key for key in differing(same) if key.startswith("method."))]
        tells.append({key: words(key, value_of(one, key)) for key in keys})
    return tells


def _of_several_commits(one: Group) -> str | None:
    commits = sorted({run.commit for run in one.runs})
    if len(commits) < 2:
        return None
    return f"the runs of {one.name} were made with {len(commits)} commits: {', '.join(commits)}"
