"""Checks of plain values that others may have written: the expected content of a JSON or YAML file, as data.

A check takes a value and its path, and raises ``ValueError`` stating the value found and the one expected. Nothing is
converted: a value that passes is one that the program itself would have written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import yaml

from cl_lightning.core.errors import InvalidFileError

Check = Callable[[Any, str], None]
"""Function of a value and its path, as messages name it. Raises ``ValueError``."""

LARGEST = 2**53
"""Largest whole number, other than keys: beyond it JSON readers lose digits."""
_DEEPEST, MOST_VALUES = 64, 2_000_000
_SHOWN = 40


def read_json(text: bytes | str, where: str) -> Any:
    """Return the value of a JSON text. Raises ``ValueError`` for text that is not JSON, repeated names in one mapping,
    NaN and too deep nesting.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise InvalidFileError(where, "is nested too deeply") from None
    except ValueError as error:
        raise InvalidFileError(where, f"is not what was written ({' '.join(str(error).split())})") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a name stands twice in one place")
    return mapping


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


class _OnceLoader(yaml.SafeLoader):
    """YAML loader that refuses a repeated key in one mapping, of which the last would win silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return the mapping of a node."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(set(keys)) < len(keys):
            raise yaml.YAMLError("a key stands twice in one place")
        return super().construct_mapping(node, deep=deep)


def read_yaml(text: str) -> Any:
    """Return the value of a YAML text: mappings, lists, text, numbers, true, false and null.

    Raises:
        yaml.YAMLError: it is not YAML, nested too deeply, or holds anything else. A value that refers to itself, or
            grows by references without end, is refused before anything copies it.
    """
    try:
        found = yaml.load(text, _OnceLoader)  # a SafeLoader
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except (ValueError, TypeError, OverflowError, AttributeError) as error:  # a date or a number that is none
        raise yaml.YAMLError(" ".join(str(error).split())) from error
    try:
        plain(found, "it")
    except ValueError as error:
        raise yaml.YAMLError(str(error)) from error
    return found


def plain(value: Any, where: str) -> None:
    """Raise ``ValueError`` for a value of other kinds, too deep, or too large when references are written out."""
    left = MOST_VALUES
    stack: list[tuple[Any, int]] = [(value, 0)]
    while stack:
        each, depth = stack.pop()
        left -= 1
        if depth > _DEEPEST or left < 0:
            raise InvalidFileError(where, "is nested too deeply or refers to itself")
        if isinstance(each, dict):
            if not all(isinstance(key, str) for key in each):
                odd = next(key for key in each if not isinstance(key, str))
                raise InvalidFileError(where, f"has the key {in_words(odd)}, which is no text")
            stack += [(inner, depth + 1) for inner in each.values()]
        elif isinstance(each, list | tuple):
            stack += [(inner, depth + 1) for inner in each]
        elif not (each is None or isinstance(each, bool | int | float | str)):
            raise InvalidFileError(where, f"holds {in_words(each)}, a {type(each).__name__}")


def in_words(value: Any) -> str:
    """Return a value as text for a message, cut where it is long."""
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 200:
        return "a number of very many digits"
    text = ascii(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _refuse(value: Any, where: str, expected: str) -> InvalidFileError:
    return InvalidFileError(where, f"is {in_words(value)}, not {expected}")


# ---- the checks --------------------------------------------------------------------------------------------------


def text(value: Any, where: str) -> None:
    """Raise ``ValueError`` unless the value is text."""
    if type(value) is not str:
        raise _refuse(value, where, "text")


def boolean(value: Any, where: str) -> None:
    """Raise ``ValueError`` unless the value is true or false."""
    if type(value) is not bool:
        raise _refuse(value, where, "true or false")


def number(value: Any, where: str) -> None:
    """Raise ``ValueError`` unless the value is a finite number."""
    if type(value) not in (int, float) or (type(value) is float and not math.isfinite(value)):
        raise _refuse(value, where, "a number")


def whole(low: int = 0, high: int = LARGEST) -> Check:
    """Return the check of a whole number in [low, high]."""

    def checked(value: Any, where: str) -> None:
        if type(value) is not int or not low <= value <= high:
            bound = f"from {low} to {high}" if high < LARGEST else f"from {low} on"
            raise _refuse(value, where, f"a whole number {bound}")

    return checked


def maybe(check: Check) -> Check:
    """Return the check of a value that may be null."""

    def checked(value: Any, where: str) -> None:
        if value is not None:
            check(value, where)

    return checked


def either(*checks: Check) -> Check:
    """Return the check that one of ``checks`` passes; the last one's message is reported."""

    def checked(value: Any, where: str) -> None:
        for check in checks[:-1]:
            try:
                return check(value, where)
            except ValueError:
                pass
        return checks[-1](value, where)

    return checked


def one_of(*allowed: Any) -> Check:
    """Return the check that a value is among ``allowed``."""

    def checked(value: Any, where: str) -> None:
        if not any(type(value) is type(each) and value == each for each in allowed):
            raise _refuse(value, where, " or ".join(map(str, allowed)))

    return checked


def list_of(check: Check, length: int | None = None, kinds: tuple[type, ...] = (list,)) -> Check:
    """Return the check of a list whose entries all pass."""

    def checked(value: Any, where: str) -> None:
        if type(value) not in kinds:
            raise _refuse(value, where, "a list")
        if length is not None and len(value) != length:
            raise InvalidFileError(where, f"has {len(value)} entries, not {length}")
        for index, each in enumerate(value):
            check(each, f"{where}[{index}]")

    return checked


def mapping_of(check: Check, key: Check = text) -> Check:
    """Return the check of a mapping whose keys and values all pass."""

    def checked(value: Any, where: str) -> None:
        if type(value) is not dict:
            raise _refuse(value, where, "a mapping")
        for name, each in value.items():
            key(name, f"a key of {where}")
            check(each, f"{where}.{in_words(name)}")

    return checked


def record(keys: Mapping[str, Check], optional: Collection[str] = (), *, more: bool = False) -> Check:
    """Return the check of a mapping of these keys, all but ``optional`` ones required; ``more`` allows others."""

    def checked(value: Any, where: str) -> None:
        if type(value) is not dict:
            raise _refuse(value, where, "a mapping")
        for name in keys:
            if name not in value and name not in optional:
                raise InvalidFileError(where, f"has no {name}")
        for name, each in value.items():
            if name in keys:
                keys[name](each, f"{where}.{name}")
            elif not more:
                raise InvalidFileError(where, f"has {in_words(name)}, which nothing reads")

    return checked
