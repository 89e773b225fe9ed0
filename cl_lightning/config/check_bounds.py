"""The check of every option of a configuration against its bounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from cl_lightning.config.schema.bounds import Named, bounds_of
from cl_lightning.core.errors import UserError


def check_values(options: Any) -> None:
    """Raise ``UserError`` for the first value of ``options``, a dataclass, that is out of its bounds: one line with
    the value, what is allowed and the override to type. ``None`` is for the option's type to allow.
    """
    for line in refusals(options):
        raise UserError(line)


def refusals(options: Any, within: Named | None = None) -> Iterator[str]:
    """Yield a line on each value that is out of its bounds, also in nested dataclasses and lists of them."""
    hints = _hints(type(options))  # type: ignore[arg-type]
    for field in dataclasses.fields(options):
        named = _named(field.name, within)
        value = getattr(options, field.name)
        if value is None:
            continue
        line = _of_another_kind(named, value, hints[field.name])
        bounds = bounds_of(field)
        if line is None and bounds is not None:
            line = bounds.refusal(named, value)
        if line is not None:
            yield line
        elif dataclasses.is_dataclass(value):
            yield from refusals(value, named)
        elif isinstance(value, list):
            yield from _of_entries(named, value)


def _of_entries(named: Named, entries: list[Any]) -> Iterator[str]:
    for index, entry in enumerate(entries, start=1):
        if dataclasses.is_dataclass(entry):
            where = f"{named.key}, entry {index} ({getattr(entry, 'name', '')}): "
            yield from refusals(entry, Named("", where, ": "))


def _named(name: str, within: Named | None) -> Named:
    if within is None:
        return Named(name)
    return Named(f"{within.key}.{name}" if within.key else name, within.where, within.sign)


def _of_another_kind(named: Named, value: Any, hint: Any) -> str | None:
    """Return a line where ``${...}`` put a number in place of a list or of a group of options: OmegaConf checks
    numbers and strings alone.
    """
    kinds = [hint, *get_args(hint)]
    if get_origin(hint) is list:
        inner = get_args(hint)[0]
        if not isinstance(value, list):
            return f"{named.given(value)} is not a list: type '{named.typed('[...]')}'"
        if dataclasses.is_dataclass(inner) and not all(isinstance(each, inner) for each in value):  # type: ignore[arg-type]
            return f"{named.given(value)} is no list of entries: type '{named.typed('[{KEY: VALUE}]')}'"
    groups = tuple(kind for kind in kinds if isinstance(kind, type) and dataclasses.is_dataclass(kind))
    if get_origin(hint) is not list and groups and not isinstance(value, groups):
        return f"{named.given(value)} holds no options: type {named.key}.KEY=VALUE"
    if get_origin(hint) is dict and not isinstance(value, dict):
        return f"{named.given(value)} holds no options: type {named.key}.KEY=VALUE"
    return None


@cache
def _hints(schema: type) -> dict[str, Any]:
    return get_type_hints(schema)
