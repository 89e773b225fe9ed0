"""What is typed, before Hydra reads it: in the order that Hydra understands, and without what it would answer with a
page of usage or a traceback.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections import deque
from collections.abc import Sequence
from typing import Any

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import ChoiceSweep, Glob, QuotedString

from cl_lightning.config.files import options
from cl_lightning.config.literal import as_hydra_reads, holds_list, kind_of_key, literal
from cl_lightning.errors import UserError

_GROUPS = ("method", "data", "model", "memory", "recipe", "trainer", "logger")
"""Of the configuration: a run needs one option of each."""
SEVERAL = ("experiment", "sweep", "debug")
"""Groups of which a run may have several options, as a list, or none."""
_DIGITS = re.compile(r"\d{300}")
"""More than any number has: Python gives up at some thousands."""
_VERBOSITY = {"-q": "verbose=0", "-v": "verbose=2"}
"""Flags that Hydra does not know -> overrides."""
_MULTIRUN = {"-m", "--multirun"}


def read(typed: Sequence[str]) -> list[str]:
    """Overrides, in the order in which they were typed, and flags with their values behind them.

    Flags may stand anywhere: Hydra reads ``method=wa -m seed=0,1`` only if nothing comes behind ``-m``. Paths and texts
    are as :func:`~cl_lightning.config.literal.literal` puts them.

    Raises:
        UserError: a flag that does not exist, lacks its value or has a wrong one, flags that do not go together, a
            group without an option, or with several, and a path without a name.
    """
    flags, overrides = _sorted([_VERBOSITY.get(argument, argument) for argument in typed])
    for override in overrides:
        _check_key(override)
        _check_group(override)
        _check_deletion(override)
        _check_digits(override)
    if _MULTIRUN & set(flags) and any(flag.startswith(("--cfg", "-c")) for flag in flags):
        raise UserError("--cfg prints one configuration: leave out -m")
    many = wants_many(flags)
    return [*(literal(override, many=many) for override in overrides), *flags]


def wants_many(arguments: Sequence[str]) -> bool:
    """Whether a run is asked for of every combination."""
    return not _MULTIRUN.isdisjoint(arguments)


def _sorted(typed: Sequence[str]) -> tuple[list[str], list[str]]:
    """Flags, each with its value behind it, and overrides."""
    known = {name: action for action in get_args_parser()._actions for name in action.option_strings}
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


def _check_key(override: str) -> None:
    """Refuse keys that are nobody's to type."""
    key, _, value = override.lstrip("+~").partition("=")
    if not key:
        raise UserError(f"{override} cannot be read: type key=value")
    if key.partition(".")[0] == "extends":
        raise UserError("extends is written by learn=, not typed: type learn=RUN_DIR data.new=FOLDER")
    parts = key.split(".")
    for depth in range(1, len(parts)):
        parent = ".".join(parts[:depth])
        if holds_list(parent) and not parts[depth].isdecimal():
            like = f"{parent}.0.{parts[-1]}={value or '...'}" if parent == "data.sets" else f"'{parent}=[...]'"
            raise UserError(f"{override} is none of the entries of {parent}: type {like}")


def _check_group(override: str) -> None:
    group, equals, value = override.lstrip("+").partition("=")
    if not equals or not options(group):
        return
    if not all(_may_be_option(word, group) for word in _words(value)):
        raise UserError(f"{override} does not exist: type {group}= one of {', '.join(options(group))}")
    if group not in _GROUPS and value in ("", "null"):
        raise UserError(f"{override} is what holds without it: leave it out")
    if group not in _GROUPS:
        return
    one = f"type {group}={' or '.join(options(group))}"
    if value in ("", "null"):
        raise UserError(f"{override}, but a run needs one: {one}")
    if value.startswith("[") and value.endswith("]"):
        raise UserError(f"{override} are several, but a run has one: type one, or -m {group}={value[1:-1]} for all")
    if value.startswith("schema_"):
        raise UserError(f"{override} is the type that options start from, not an option: {one}")


def _words(value: str) -> list[Any]:
    """Return what Hydra reads in the value of a group, where it wants the names of options: of several, each."""
    read = as_hydra_reads(value)
    given = None if read is None else read._value
    if isinstance(given, ChoiceSweep):
        return given.list
    return given if isinstance(given, list) else [given]


def _may_be_option(word: Any, group: str) -> bool:
    """Return whether ``word`` is not a number, a truth value or the like; a group's options may be typed together,
    ``memory={size: 20}``.
    """
    return word is None or isinstance(word, str | QuotedString | Glob) or (group in _GROUPS and isinstance(word, dict))


def _check_deletion(override: str) -> None:
    """Refuse ``~seed``: an option that is not there has no value, and a run needs one of each."""
    key = override.removeprefix("~").partition("=")[0].partition("@")[0]
    if not override.startswith("~") or key.partition("/")[0].partition(".")[0] == "hydra":
        return
    if key in SEVERAL:
        if override.partition("=")[2] not in ("", *options(key)):
            raise UserError(f"{override} takes away what is not there: type ~{key} alone, or leave it out")
        return
    how = f"{key}= one of {', '.join(options(key))}" if options(key) else f"{key}=VALUE"
    raise UserError(f"{override} is not possible, every option has a value: type {how}, or leave it out")


def _check_digits(override: str) -> None:
    """Refuse what only Python's own limit would end."""
    key = override.partition("=")[0]
    if kind_of_key(key) is None and _DIGITS.search(override):
        raise UserError(f"{override[:60]}... has a number that is too long: type {key[:60]}=N with fewer digits")
