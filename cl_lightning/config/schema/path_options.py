"""The kinds of options that only the user can know: the path of a file or folder, a text of any letters.

It is declared where the option is, and nowhere else; what follows from it is in
:mod:`~cl_lightning.config.command_line.literals` (they are taken as the shell hands them over) and
:func:`made_absolute` (paths are resolved once).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from cl_lightning.core.paths import absolute, typed_path

Kind = Literal["folder", "file", "text"]
PATHS: tuple[Kind, ...] = ("folder", "file")

_KIND = "kind"
_Options = TypeVar("_Options")


def folder(default: Any = dataclasses.MISSING) -> Any:
    """Return a field that holds the path of a folder."""
    return dataclasses.field(default=default, metadata={_KIND: "folder"})


def file() -> Any:
    """Return a field that holds the path of a file."""
    return dataclasses.field(metadata={_KIND: "file"})


def text() -> Any:
    """Return a field that holds a text of any letters."""
    return dataclasses.field(metadata={_KIND: "text"})


def kind_of(field: dataclasses.Field[Any]) -> Kind | None:
    """Return the kind of a field; None for a number, a choice, a truth value, a list ..."""
    return field.metadata.get(_KIND)


def made_absolute(options: _Options, here: Path, kinds: Collection[Kind] = PATHS) -> _Options:
    """Return a copy of ``options``, a dataclass, whose paths of these ``kinds``, and those of nested dataclasses, are
    absolute: relative ones start from ``here``.
    """
    assert dataclasses.is_dataclass(options)
    assert not isinstance(options, type)
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if kind_of(field) in kinds and isinstance(value, str) and value:
            changed[field.name] = str(absolute(value, here))
        elif dataclasses.is_dataclass(value):
            changed[field.name] = made_absolute(value, here, kinds)
        elif isinstance(value, list) and value and all(map(dataclasses.is_dataclass, value)):
            changed[field.name] = [made_absolute(entry, here, kinds) for entry in value]
    return dataclasses.replace(options, **changed)


def relative_paths(saved: Mapping[str, Any], kinds: Mapping[str, Kind]) -> Iterator[tuple[str, str]]:
    """Yield key, as typed, and value of each relative path in ``saved``, a configuration as plain values; ``kinds`` is
    that of :func:`~cl_lightning.config.command_line.literals.kinds`.
    """
    for key, value in _leaves(saved):
        plain = ".".join(part for part in key.split(".") if not part.isdecimal())
        if kinds.get(plain) in PATHS and isinstance(value, str) and not typed_path(value).is_absolute():
            yield key, value


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _leaves(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from _leaves(value, f"{prefix}.{place}")
    else:
        yield prefix, node
