"""Tables and pictures of a task for a dashboard, as plain data: loggers send them and draw nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Picture:
    """A PNG and its caption."""

    png: bytes
    caption: str = ""


Table = tuple[Sequence[str], Sequence[Sequence[float | str]]]
"""Columns and rows."""


@dataclass(frozen=True)
class Panels:
    """Tables and pictures by name; a name with several pictures is a gallery."""

    tables: Mapping[str, Table] = field(default_factory=dict)
    pictures: Mapping[str, Sequence[Picture]] = field(default_factory=dict)
