"""Names of classes and files: one name however its accents are written, and names that are nearly the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable


def nfc(name: str) -> str:
    """Unicode's composed form: some systems keep an accent apart from its letter (NFD), others do not, and copying a
    folder from one to the other changes the bytes of its names.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def plain(name: str) -> str:
    """What is left of a name without case, spaces, underscores and hyphens: equal for ``Red fox`` and ``red_fox``."""
    return re.sub(r"[\s_\-]+", "", unicodedata.normalize("NFKC", name).casefold())


def similar(names: Iterable[str], known: Iterable[str]) -> tuple[str, str] | None:
    """The first of ``names`` that differs from one of ``known`` in :func:`plain` ways alone, and that one."""
    by_plain: dict[str, str] = {}
    for name in known:
        by_plain.setdefault(plain(name), name)
    return next(((name, by_plain[plain(name)]) for name in names if plain(name) in by_plain), None)


def twins(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two of ``names`` that differ in :func:`plain` ways alone."""
    met: dict[str, str] = {}
    return next(((met[plain(name)], name) for name in names if met.setdefault(plain(name), name) is not name), None)
