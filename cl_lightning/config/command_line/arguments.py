"""The arguments typed, before Hydra reads them: in the order that it understands, and without those that it answers
with a page of usage or a traceback.
"""

from __future__ import annotations

import argparse
import difflib
from collections import deque
from collections.abc import Sequence

from cl_lightning.config.command_line.keys import check_override
from cl_lightning.config.command_line.literals import literal
from cl_lightning.config.hydra_internals import command_line_flags
from cl_lightning.core.errors import UserError

_VERBOSITY = {"-q": "verbose=0", "-v": "verbose=2"}
"""Flags that Hydra does not know -> overrides."""
_MULTIRUN = {"-m", "--multirun"}


def read(typed: Sequence[str]) -> list[str]:
    """Return overrides in the order in which they were typed, then flags with their values.

    Flags may stand anywhere: Hydra reads ``method=wa -m seed=0,1`` only if nothing follows ``-m``. Paths and texts
    are quoted by :func:`~cl_lightning.config.command_line.literals.literal`.

    Raises:
        UserError: a flag that does not exist, lacks its value or has a wrong one, flags that do not go together, a
            group without an option, or with several, and a path without a name.
    """
    flags, overrides = _sorted([_VERBOSITY.get(argument, argument) for argument in typed])
    for override in overrides:
        check_override(override)
    if _MULTIRUN & set(flags) and any(flag.startswith(("--cfg", "-c")) for flag in flags):
        raise UserError("--cfg prints one configuration: leave out -m")
    many = wants_many(flags)
    return [*(literal(override, many=many) for override in overrides), *flags]


def wants_many(arguments: Sequence[str]) -> bool:
    """Return whether a run of every combination is asked for."""
    return not _MULTIRUN.isdisjoint(arguments)


def _sorted(typed: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return flags, each followed by its value, and overrides."""
    known = command_line_flags()
    flags: list[str] = []
    overrides: list[str] = []
    rest = deque(typed)
    while rest:
        argument = rest.popleft()
        if not argument.startswith("-"):
            overrides.append(argument)
            continue
        name, equals, value = argument.partition("=")
        if name not in known:
            close = difflib.get_close_matches(name, list(known), n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise UserError(f"{name} does not exist{hint}: type --help for what can be typed")
        flags.append(argument)
        flag = known[name]
        if equals and flag.nargs == 0:
            raise UserError(f"{argument} is not possible: type {name} alone")
        if equals or flag.nargs is None:
            given = value if equals else rest.popleft() if rest else ""
            _check_value(name, given, flag)
            flags.extend([] if equals else [given])
        elif flag.nargs == "?" and rest and rest[0] in (flag.choices or ()):
            flags.append(rest.popleft())
    return flags, overrides


def _check_value(name: str, value: str, action: argparse.Action) -> None:
    allowed = list(action.choices or [])
    if allowed and value not in allowed:
        wrong = f"{name} {value} is not a choice" if value else f"{name} has no value"
        raise UserError(f"{wrong}: type {' or '.join(f'{name} {choice}' for choice in allowed)}")
    if not value or value.startswith("-"):
        raise UserError(f"{name} has no value: type {name} {action.dest.upper()}")
