"""Files in a folder of data that are not read: counted by kind, so that nothing is skipped silently."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cl_lightning.core.printable import printable

log = logging.getLogger(__name__)

SYSTEM = "system files"
"""Kind of the files that file managers leave behind: only the log counts them."""
LISTED = 10_000
"""Number of files of a kind that the log names."""
_NAMED = 6
"""Number of kinds that a line names."""
_ONE = {"files": "file", "folders": "folder", "images": "image", "links": "link"}


@dataclass(frozen=True)
class LeftOut:
    """One kind of skipped files."""

    kind: str
    """Kind in the plural: ``.txt files``."""
    count: int
    example: str
    """Path of one of them, below the data root."""

    def words(self) -> str:
        """Return a phrase such as ``3 .txt files such as cat/notes.txt``."""
        if self.count > 1:
            return f"{self.count} {self.kind} such as {self.example}"
        return f"1 {re.sub('|'.join(_ONE), lambda plural: _ONE[plural[0]], self.kind, count=1)}, {self.example}"


@dataclass
class Aside:
    """Collector of the files that are skipped while folders are listed."""

    _counts: dict[str, int] = field(default_factory=dict)
    _paths: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, path: str) -> None:
        """Add a file, which messages show as ``path``."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        paths = self._paths.setdefault(kind, [])
        if len(paths) < LISTED:
            paths.append(printable(path))

    def merge(self, other: Aside) -> None:
        """Add all files of ``other``."""
        for kind, count in other._counts.items():
            self._counts[kind] = self._counts.get(kind, 0) + count
            paths = self._paths.setdefault(kind, [])
            paths += other._paths[kind][: LISTED - len(paths)]

    def kinds(self) -> tuple[LeftOut, ...]:
        """Return the kinds, the most frequent first; without system files."""
        found = [LeftOut(kind, count, self._paths[kind][0]) for kind, count in self._counts.items() if kind != SYSTEM]
        return tuple(sorted(found, key=lambda each: (-each.count, each.kind)))

    def log(self, root: object) -> None:
        """Write every path into the log."""
        for kind, paths in self._paths.items():
            more = self._counts[kind] - len(paths)
            log.info(
                "left out of %s: %d %s: %s%s",
                root, self._counts[kind], kind, ", ".join(paths), f" and {more} more" if more else "",
            )  # fmt: skip


def in_words(left_out: Sequence[LeftOut]) -> str:
    """Return all kinds in one line; if there are many, the less frequent ones without a name."""
    rest = left_out[_NAMED:] if len(left_out) > _NAMED + 1 else ()
    words = [each.words() for each in left_out[: len(left_out) - len(rest)]]
    return "; ".join([*words, *([f"{sum(each.count for each in rest)} others, of {len(rest)} kinds"] if rest else [])])
