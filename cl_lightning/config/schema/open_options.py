"""Options that may be left open: null in ``conf/`` and on a command line, a value in a run.

The dataclasses of the schema say what a run has: ``size: Filled[int]`` is a whole number there, and mypy knows it. What
is composed may have null in its place, so Hydra and OmegaConf compose with the type that :func:`opened` derives from
the same dataclass. ``fill_auto.fill_in`` puts the values in, and :func:`closed` goes back to the dataclass.
"""

from __future__ import annotations

import dataclasses
import types
from functools import cache
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

_LEFT_OPEN = "null until it is filled in"
Filled = Annotated[T, _LEFT_OPEN]
"""The type of an option that may be left open."""
Open = Annotated[T, "as composed"]
"""Options that have not been filled in: null is where the schema says ``Filled``."""


def is_filled_in(schema: type, name: str) -> bool:
    """Return whether an option of ``schema`` may be left open."""
    return _LEFT_OPEN in getattr(_hints(schema)[name], "__metadata__", ())


def opened(schema: type[T]) -> type[T]:
    """Return the type to compose options of ``schema`` with: the same, but that null may be where something is filled
    in, here and in the dataclasses within.

    It has the name of ``schema``, which is what messages show.
    """
    made: type[T] = _opened(schema)  # type: ignore[arg-type]
    return made


@cache
def _opened(schema: Any) -> Any:
    hints: dict[str, Any] = {name: _opened_hint(hint) for name, hint in _hints(schema).items()}
    fields = {field.name: _copied(field) for field in dataclasses.fields(schema)}
    bases = [_opened(base) for base in schema.__mro__[1:2] if base is not object]
    names = {"__module__": schema.__module__, "__annotations__": {name: hints[name] for name in fields}}
    made = type(schema.__name__, (schema, *bases), {**names, **fields, "closed_type": schema})
    return dataclasses.dataclass(made)


def closed(options: Open[T]) -> T:
    """Return ``options``, all filled in, as what the schema says.

    Raises:
        TypeError: something was left open, which is a mistake of ours.
    """
    schema = schema_of(type(options))
    values = {field.name: _closed(getattr(options, field.name)) for field in dataclasses.fields(schema)}
    left = [name for name, value in values.items() if value is None and is_filled_in(schema, name)]
    if left:
        raise TypeError(f"{schema.__name__}: nothing was filled in for {', '.join(left)}")
    made: T = schema(**values)
    return made


def schema_of(composed: Any) -> Any:
    """Return the dataclass of the schema for the type that its options are composed with, and any other as it is."""
    return getattr(composed, "closed_type", composed)


def _closed(value: Any) -> Any:
    if isinstance(value, list):
        return [_closed(entry) for entry in value]
    return closed(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value


@cache
def _hints(schema: type) -> dict[str, Any]:
    return get_type_hints(schema, include_extras=True)


def _opened_hint(hint: Any) -> Any:
    """Return the type that an option has while it is composed."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _opened_hint(inner[0]) | None
    if origin in (Union, types.UnionType):
        return Union[tuple(map(_opened_hint, inner))]  # noqa: UP007 - of a number of types that is not known
    if origin is list:
        return list[_opened_hint(inner[0])]  # type: ignore[misc]
    return opened(hint) if isinstance(hint, type) and dataclasses.is_dataclass(hint) else hint


def _copied(field: dataclasses.Field[Any]) -> Any:
    given: dict[str, Any] = {"metadata": field.metadata, "kw_only": field.kw_only}
    if field.default is not dataclasses.MISSING:
        given["default"] = field.default
    if field.default_factory is not dataclasses.MISSING:
        given["default_factory"] = field.default_factory
    return dataclasses.field(**given)
