"""The name that somebody means who types another: by the words in it, and by its letters."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def nearest_name(typed: str, names: Iterable[str]) -> str | None:
    """Return the shortest of ``names`` that begins with ``typed``, else the one that shares most words with it, else
    the nearest one by letters, else None. Words are runs of letters, capital or not.

    >>> nearest_name("stanford_cars", ["digits", "cars", "stanford_dogs"])
    'cars'
    >>> nearest_name("dogs", ["digits", "cars", "stanford_dogs"])
    'stanford_dogs'
    >>> nearest_name("digit", ["digits", "cars", "stanford_dogs"])
    'digits'
    """
    known = list(names)
    longer = [name for name in known if len(typed) > 1 and name.casefold().startswith(typed.casefold())]
    if longer:
        return min(longer, key=len)
    shared = {name: _share(_words(typed), _words(name)) for name in known}
    most = max(shared.values(), default=0.0)
    alike = [name for name in known if shared[name] == most] if most else known
    close = difflib.get_close_matches(typed.casefold(), alike, n=1, cutoff=0.0 if most else 0.6)
    return close[0] if close else None


def _words(name: str) -> set[str]:
    return {word for word in re.findall(r"[^\W\d_]+", name.casefold()) if len(word) > 1}


def _share(one: set[str], other: set[str]) -> float:
    """Return the number of common words over that of all words."""
    return len(one & other) / len(one | other) if one and other else 0.0
