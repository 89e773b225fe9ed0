"""Conditions under which options are read, and lines of options that are read under the same ones."""

from __future__ import annotations

from dataclasses import dataclass

from cl_lightning.config.unused.conditions import Holds


@dataclass(frozen=True)
class Need:
    """A condition for an option to be read."""

    holds: Holds
    type: str
    """Overrides to type to meet it."""
    why: str = ""
    """Reason why the option is not read else, where that is not plain."""


@dataclass(frozen=True)
class Line:
    """Options that are read under the same conditions."""

    keys: tuple[str, ...]
    needs: tuple[Need, ...]
    """All conditions; the first that does not hold is reported."""
