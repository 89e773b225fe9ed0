"""Options that were typed and that nothing reads: refused, because a run without them looks the same as one with them.

Whether one is read depends on the rest of the configuration (``used_by.py``), not on its value. In a multirun it is
wrong only if none of the jobs reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cl_lightning.config.command_line.overrides import Assignment, plain_assignments
from cl_lightning.config.schema import Config
from cl_lightning.config.schema.open_options import Open
from cl_lightning.config.unused.conditions import Facts
from cl_lightning.config.unused.needs import Need
from cl_lightning.config.unused.used_by import BY_KEY
from cl_lightning.core.errors import UserError

_ENTRY = re.compile(r"data\.sets\.(\d+)\.")
_SHOWN = 3
"""Largest number of options that a message names."""


@dataclass(frozen=True)
class Unread:
    """An option that was typed and has no effect."""

    key: str
    text: str
    """Override as typed."""
    type: str
    """Overrides to type as well for it to be read."""
    why: str = ""
    """Reason why nothing reads it, where that is not plain from what reads it."""


def unread(typed: Iterable[Assignment], config: Config, given: Open[Config] | None = None) -> list[Unread]:
    """Return the options that were typed and that nothing reads.

    Args:
        typed: see :func:`~cl_lightning.config.command_line.overrides.assignments`.
        config: the filled-in configuration.
        given: the configuration before it was filled in; None for a saved one.
    """
    typed = list(typed)
    facts = Facts(config, given or config)
    found = [
        Unread(one.key, one.text, need.type, need.why)
        for one in typed
        if (need := _missing(one.key, facts)) is not None
    ]
    texts = [one.text for one in typed]
    return [one for one in found if not any(f"${{{one.key}}}" in text for text in texts)]


def _missing(key: str, facts: Facts) -> Need | None:
    """Return the first condition that does not hold for the option to be read; None if it is read."""
    entry = _ENTRY.match(key)
    if entry is not None:
        index, sets = int(entry[1]), facts.config.data.sets
        if index >= len(sets):
            return None  # reported elsewhere
        facts = Facts(facts.config, facts.given, sets[index])
    line = BY_KEY.get(_ENTRY.sub("data.sets.", key))
    needs = () if line is None else line.needs
    return next((need for need in needs if not need.holds(facts)), None)


def is_conditional(key: str) -> bool:
    """Return whether there are configurations that do not read the option."""
    return _ENTRY.sub("data.sets.", key) in BY_KEY


def told(found: Sequence[Unread], nobody: str = "nobody here") -> str:
    """Return one line on options that are read by ``nobody``."""
    shown = [
        f"{_short(one)} is read by {nobody}{one.why and f' ({one.why})'}: type {one.type} as well, or leave it out"
        for one in found[:_SHOWN]
    ]
    return "; ".join(shown) + _more(found)


def _more(found: Sequence[Unread]) -> str:
    return f" (and {len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""


def _short(one: Unread) -> str:
    """Return the option meant, of an override that holds several."""
    return one.text if one.text.lstrip("+~").startswith(f"{one.key}=") else f"{one.key} (in {one.text})"


def refuse_unread(overrides: Sequence[str], config: Config) -> None:
    """Raise ``UserError`` if there is something among ``overrides`` that the run with this configuration, which exists,
    does not read.
    """
    found = unread(plain_assignments(overrides), config)
    if found:
        shown = [f"{one.text} is read by nobody in this run, only with {one.type}" for one in found[:_SHOWN]]
        raise UserError(f"{'; '.join(shown)}{_more(found)}: leave it out")
