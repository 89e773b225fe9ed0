"""Checks of one override before Hydra reads it: refused where Hydra, or Python, would answer with a traceback or
with a misleading message.
"""

from __future__ import annotations

import re
from typing import Any

from cl_lightning.config.command_line.literals import holds_list, kind_of_key
from cl_lightning.config.hydra_internals import ChoiceSweep, Glob, QuotedString, as_typed
from cl_lightning.config.yaml_files import options
from cl_lightning.core.errors import UserError

_GROUPS = ("method", "data", "model", "memory", "recipe", "trainer", "logger")
"""Groups of the configuration: a run needs one option of each."""
SEVERAL = ("experiment", "sweep", "debug")
"""Groups of which a run may have several options, as a list, or none."""
_DIGITS = re.compile(r"\d{300}")
"""More digits than any number has: Python refuses some thousands."""
_HYDRA_S = ("hydra.overrides", "hydra.runtime", "hydra.callbacks")
"""Parts of Hydra's configuration that it fills in by itself."""
_HYDRA_S_GROUPS = ("hydra.sweeper", "hydra.launcher", "hydra.help", "hydra.hydra_help")


def check_override(override: str) -> None:
    """Raise ``UserError``, one line, for an override that can mean nothing."""
    _check_key(override)
    _check_group(override)
    _check_deletion(override)
    _check_digits(override)
    _check_hydra(override)


def _check_key(override: str) -> None:
    """Refuse keys that may not be typed."""
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
    """Return the values that Hydra reads for a group, where it expects names of options: one, or each of several."""
    given = as_typed(value)
    if isinstance(given, ChoiceSweep):
        return given.list
    if isinstance(given, list):
        return given
    return [] if given is None else [given]


def _may_be_option(word: Any, group: str) -> bool:
    """Return whether ``word`` is no number, truth value or the like; a group's options may be typed together,
    ``memory={size: 20}``.
    """
    return isinstance(word, str | QuotedString | Glob) or (group in _GROUPS and isinstance(word, dict))


def _check_deletion(override: str) -> None:
    """Refuse ``~seed``: a deleted option has no value, and a run needs one of each."""
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
    """Refuse numbers with more digits than Python reads."""
    key = override.partition("=")[0]
    if kind_of_key(key) is None and _DIGITS.search(override):
        raise UserError(f"{override[:60]}... has a number that is too long: type {key[:60]}=N with fewer digits")


def _check_hydra(override: str) -> None:
    """Refuse values that Hydra accepts, and then fails on."""
    key, equals, value = override.lstrip("+~").partition("=")
    if "/" in key and equals and not all(isinstance(word, str | QuotedString) for word in _words(value)):
        raise UserError(f"{override} names no option: type {key}=NAME")
    if any(key == part or key.startswith(f"{part}.") for part in _HYDRA_S):
        raise UserError(f"{override} is filled in by Hydra, not typed: leave it out")
    if key in _HYDRA_S_GROUPS:
        raise UserError(f"{override} is not possible: type {key.replace('.', '/')}=NAME, or {key}.KEY=VALUE")
    if key == "hydra.verbose" and not all(isinstance(word, bool | str | QuotedString) for word in _words(value)):
        raise UserError(f"{override} is not possible: type hydra.verbose=true, or the name of a logger")
