"""Numbers, times and names as the report's page writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cl_lightning.core.types import Plain


def number(value: float) -> str:
    """Return a number in %, or points, with one digit."""
    return "n/a" if math.isnan(value) else f"{value:.1f}"


def share(value: float | None) -> str:
    """Return a share in [0, 1] in %."""
    return "n/a" if value is None else f"{100 * value:.1f} %"


def duration(seconds: float | None) -> str:
    """Return a time in the two largest units that it has."""
    if seconds is None:
        return "n/a"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def counted(count: int, word: str, words: str = "") -> str:
    """Return a number with its noun."""
    return f"{count:,} {word if count == 1 else words or word + 's'}"


def listed(names: Sequence[str]) -> str:
    """Return names with commas, and *and* before the last."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def hyphenated(name: str) -> str:
    """Return the name of an option's value as a word."""
    return name.replace("_", "-")


def shortened(name: str, most: int = 40) -> str:
    """Return a name of at most ``most`` characters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


def plain(value: Plain) -> str:
    """Return a value of a protocol in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={plain(item)}" for name, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(plain, value))
    return str(value)
