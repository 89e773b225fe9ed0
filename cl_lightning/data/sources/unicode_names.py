"""Names of classes and files: one name however its accents are written, and names that are nearly the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable


def nfc(name: str) -> str:
    """Return Unicode's composed form: some systems store an accent apart from its letter (NFD), others do not, and
    copying a folder from one to the other changes the bytes of its names.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def plain(name: str) -> str:
    """Return a name without case, spaces, underscores and hyphens: equal for ``Red fox`` and ``red_fox``."""
    return re.sub(r"[\s_\-]+", "", unicodedata.normalize("NFKC", name).casefold())


def similar(names: Iterable[str], known: Iterable[str]) -> tuple[str, str] | None:
    """Return the first of ``names`` that equals one of ``known`` but for :func:`plain`, and that one."""
    by_plain: dict[str, str] = {}
    for name in known:
        by_plain.setdefault(plain(name), name)
    return next(((name, by_plain[plain(name)]) for name in names if plain(name) in by_plain), None)


def twins(names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two of ``names`` that are equal but for :func:`plain`."""
    met: dict[str, str] = {}
    return next(((met[plain(name)], name) for name in names if met.setdefault(plain(name), name) is not name), None)
