"""The runs of a comparison: chosen, finished, each once, and all of the same question."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cl_lightning.compare.measured import MeasuredRun
from cl_lightning.compare.settings import ABSENT, COMPARED, FOLLOWS, distinct, format_value, is_meant, value_of
from cl_lightning.core.errors import UserError


def select(runs: Sequence[MeasuredRun], only: Mapping[str, Sequence[str]]) -> list[MeasuredRun]:
    """Return the runs that have, of each key in ``only``, one of the values typed.

    Raises:
        UserError: a key or a value that no run has.
    """
    for key, typed in only.items():
        known = sorted({name for run in runs for name in _described(run)})
        if key not in known:
            raise UserError(f"--only {key}={typed[0]}: no run has a {key}{did_you_mean(key, known)}")
        for one in typed:
            if not any(_has(run, key, one) for run in runs):
                choices = " or ".join(
                    f"{key}={format_value(key, value)}" for value in distinct(map(_described, runs), key)
                )
                raise UserError(f"--only {key}={one} leaves no run: type --only {choices}")
    selected = [run for run in runs if all(any(_has(run, key, one) for one in typed) for key, typed in only.items())]
    if not selected:
        both = " ".join(f"--only {key}={' or '.join(typed)}" for key, typed in only.items())
        raise UserError(f"no run is all of {both}: type fewer of them")
    return selected


def did_you_mean(typed: str, known: Sequence[str]) -> str:
    """Return a suggestion where a known name is near, else all names."""
    near = difflib.get_close_matches(typed, known, 1)
    return f" (did you mean {near[0]}?)" if near else f": type one of {', '.join(known)}"


def _described(run: MeasuredRun) -> Mapping[str, Any]:
    return {**run.settings, "origin": run.origin, "seed": run.seed, "order": run.order}


def _has(run: MeasuredRun, key: str, typed: str) -> bool:
    value = value_of(_described(run), key)
    return value != ABSENT and is_meant(key, value, typed)


def without_unfinished(runs: Sequence[MeasuredRun]) -> tuple[list[MeasuredRun], list[str]]:
    """Return the finished runs, and a note on each of the others.

    Raises:
        UserError: none is finished.
    """
    notes = [
        f"{run.name} is left out: {run.settings['tasks_done']} tasks are done (--unfinished keeps it)"
        for run in runs
        if not run.finished
    ]
    finished = [run for run in runs if run.finished]
    if not finished:
        raise UserError(f"none of {named(runs)} is finished: type --unfinished to compare what is there")
    return finished, notes


def once_each(runs: Sequence[MeasuredRun], same: Mapping[str, object]) -> tuple[list[MeasuredRun], list[str]]:
    """Count a run that was found in two folders once, with a note.

    Args:
        runs: all of them.
        same: name of a run -> its group.

    Raises:
        UserError: two runs of one seed, class order and protocol whose numbers differ.
    """
    unique: dict[object, MeasuredRun] = {}
    notes = []
    for run in runs:
        first = unique.setdefault((same[run.name], run.repeat), run)
        if first is run:
            continue
        if first.content != run.content:
            both = json.loads(first.content), json.loads(run.content)
            unlike = ", ".join(key for key in sorted({*both[0], *both[1]}) if both[0].get(key) != both[1].get(key))
            avg, other = first.numbers["avg"], run.numbers["avg"]
            raise UserError(
                f"{first.name} and {run.name} have the same protocol, seed {run.seed} and class order, and another "
                f"{unlike} (Avg {avg:.2f} and {other:.2f}): type --leave-out {run.name}, or the other one"
            )
        notes.append(f"{run.name} is the same run as {first.name}: it counts once")
    return list(unique.values()), notes


def refuse_mixture(runs: Sequence[MeasuredRun], across: Sequence[str] = ()) -> tuple[str, ...]:
    """Raise ``UserError`` unless the runs are of the same question, up to the keys in ``across``.

    Returns:
        Keys of the question in which they do differ: those of ``across``, then their followers.

    Raises:
        UserError: they are not, with the keys, runs and what to type; or ``across`` has a key that is no part
            of the question.
    """
    for key in across:
        if key not in COMPARED:
            known = {name for run in runs for name in run.settings}
            why = "tells groups apart by itself" if key in known else "is nothing that runs are compared under"
            raise UserError(f"--across {key} is not possible, {key} {why}: type one of {', '.join(COMPARED)}")
    differing = [key for key in COMPARED if len(_known(runs, key)) > 1]
    allowed = _with_followers(across, differing)
    reasons = [key for key in differing if key not in allowed]
    reasons = [key for key in reasons if not any(key in FOLLOWS.get(other, ()) for other in reasons)]
    if not reasons:
        return tuple(dict.fromkeys(key for key in [*across, *differing] if key in differing))
    unlike = "; ".join(f"{_ASKED.get(key, key)} is {_who(runs, key)}" for key in reasons)
    one = format_value(reasons[0], _known(runs, reasons[0])[0])
    alike = ""
    if "evaluation" in reasons:  # each run has several: the user may choose one for all
        names = " or ".join(f"--evaluation {name}" for name in _known(runs, "evaluation"))
        alike = f"{names} to ask the same of all, "
    raise UserError(
        f"these runs are not comparable: {unlike}: type {alike}--only {reasons[0]}={_quoted(one)} (or the other) to "
        f"choose, or {' '.join(f'--across {key}' for key in reasons)} to have them in one table"
    )


_ASKED = {"evaluated_on": "they were evaluated on other images: evaluated_on"}
"""Key -> its description in a message, where the key alone is unclear."""


def _with_followers(keys: Iterable[str], differing: Sequence[str]) -> set[str]:
    """Return ``keys`` and the keys that differ because they do."""
    chosen: set[str] = set()
    new = set(keys)
    while new:
        chosen |= new
        new = {follower for key in new & set(differing) for follower in FOLLOWS.get(key, ())} - chosen
    return chosen


def _known(runs: Sequence[MeasuredRun], key: str) -> list[Any]:
    """Return the values of a key, without those not recorded, which are no evidence of a difference."""
    return [value for value in distinct([run.settings for run in runs], key) if value != ABSENT]


def _who(runs: Sequence[MeasuredRun], key: str) -> str:
    holders = [(value, [run for run in runs if value_of(run.settings, key) == value]) for value in _known(runs, key)]
    return " and ".join(f"{format_value(key, value)} in {named(own, 1)}" for value, own in holders)


def named(runs: Sequence[MeasuredRun], most: int = 2) -> str:
    """Return a few of the runs' names, and the number of all."""
    shown = ", ".join(run.name for run in runs[:most])
    return shown + (f" ({len(runs)} runs)" if len(runs) > most else "")


def _quoted(value: str) -> str:
    return f'"{value}"' if " " in value else value
