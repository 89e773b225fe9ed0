"""Values that an option may have, declared where the option is (``schema.py``) and nowhere else.

A number has a least and a greatest value, and is never infinite or NaN; a choice has its values. Conditions on several
options are in :mod:`~cl_lightning.config.check`; bounds are checked by
:mod:`~cl_lightning.config.check_bounds`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Protocol

_BOUNDS = "bounds"
TINY = 1e-30
"""Smallest number above 0: below it float32, in which networks are computed, has 0, or an infinite inverse."""
LARGEST = 1e38
"""About the largest number of 32 bits."""
MANY = 10**9
"""Upper bound of counts."""
_SHOWN = 100
"""Largest number of characters of a value in a message."""


@dataclass(frozen=True)
class Named:
    """An option as it is typed: ``data.flip=true``, or in an entry of a list, ``flip: true``."""

    key: str
    where: str = ""
    """Prefix of a message: the entry that it is in."""
    sign: str = "="

    def typed(self, value: object) -> str:
        """Return the option with a value."""
        return f"{self.key}{self.sign}{value}"

    def given(self, value: object) -> str:
        """Return the option with the value that it was given, where it stands."""
        text = str(value)
        return f"{self.where}{self.typed(text if len(text) <= _SHOWN else f'{text[:_SHOWN]}...')}"


class Bounds(Protocol):
    """Conditions on a value."""

    def refusal(self, named: Named, value: Any) -> str | None:
        """Return one line that says what is wrong with ``value`` and what to type; None for nothing."""


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``."""

    low: float
    high: float
    above: bool = False
    """True if ``low`` itself is out of it."""
    below: bool = False
    """True if ``high`` itself is."""
    whole: bool = False
    wrong: str = "is out of range"
    letter: str = "N"

    def holds(self, value: Any) -> bool:
        """Return whether ``value`` is one of them."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        low = value > self.low if self.above else value >= self.low
        high = value < self.high if self.below else value <= self.high
        return low and high and not (self.above and self.low == 0 and value < TINY)

    def refusal(self, named: Named, value: Any) -> str | None:
        """Return what is wrong with a number."""
        if self.holds(value):
            return None
        return f"{named.given(value)} {self.wrong}: type {named.typed(self.letter)} with {self.letter} {self.told()}"

    def told(self) -> str:
        """Return its ends in words."""
        low = f"{'above' if self.above else 'at least'} {_short(self.low)}"
        return f"{low} and {'below' if self.below else 'at most'} {_short(self.high)}"


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    allowed: tuple[Any, ...]

    def refusal(self, named: Named, value: Any) -> str | None:
        """Return what is wrong with a word."""
        if any(type(value) is type(each) and value == each for each in self.allowed):
            return None
        words = " or ".join(named.typed(each) for each in self.allowed)
        if named.where:  # an entry of a list, where the key is plain
            words = f"{named.typed('')}{' or '.join(map(str, self.allowed))}"
        return f"{named.given(value)} is not a choice: type {words}"


@dataclass(frozen=True)
class Each:
    """A list of numbers, or several by name."""

    range: Range
    example: str
    wrong: str = "is not possible"

    def refusal(self, named: Named, value: Any) -> str | None:
        """Return what is wrong with the first of them that is out of range."""
        if isinstance(value, dict):
            each = (self.range.refusal(Named(f"{named.key}.{name}", named.where), one) for name, one in value.items())
            return next((line for line in each if line is not None), None)
        if not isinstance(value, list | tuple) or not all(map(self.range.holds, value)):
            return f"{named.given(value)} {self.wrong}: type {named.typed(self.example)}, numbers {self.range.told()}"
        return None


def bounds_of(field: dataclasses.Field[Any]) -> Bounds | None:
    """Return the bounds of an option's values; None where its type is enough."""
    found: Bounds | None = field.metadata.get(_BOUNDS)
    return found


def number(
    default: Any = dataclasses.MISSING, *, above: float | None = None, at_least: float = 0.0, at_most: float = LARGEST
) -> Any:
    """Return a field that holds a number: above ``above``, else at least ``at_least``."""
    low = at_least if above is None else above
    return _field(default, Range(low, at_most, above=above is not None))


def whole(default: Any = dataclasses.MISSING, *, at_least: int = 0, at_most: int = MANY) -> Any:
    """Return a field that holds a whole number."""
    return _field(default, Range(at_least, at_most, whole=True))


def share(*, all_too: bool = False) -> Any:
    """Return a field that holds a share: at least 0 and below 1, or ``all_too``, 1."""
    return _field(dataclasses.MISSING, Range(0, 1, below=not all_too, wrong="is not a share", letter="X"))


def choice(allowed: tuple[Any, ...], default: Any = dataclasses.MISSING) -> Any:
    """Return a field that holds one of some values."""
    return _field(default, Choice(allowed))


def bounded(bounds: Bounds) -> dict[str, Any]:
    """Return the metadata of a field with ``bounds``."""
    return {_BOUNDS: bounds}


def _field(default: Any, bounds: Bounds) -> Any:
    return dataclasses.field(default=default, metadata=bounded(bounds))


def _short(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"
