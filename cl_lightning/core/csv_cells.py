"""Cells of CSV files that hold text from elsewhere: a spreadsheet takes none of them for a formula.

The rule is OWASP's: an apostrophe before text that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return.
Numbers stay numbers, and a reader who takes the apostrophe away again has the very text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_FORMULA = re.compile(r"'*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20]")
"""First characters of a formula, after apostrophes of its own; full-width signs count as plain ones."""
_QUOTED = re.compile('[,"\r\n]')
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def cell(text: str) -> str:
    """Return the cell for a text.

    >>> [cell(text) for text in ("cat", "-0.5", "=1+1", "'=1", "'tis")]
    ['cat', '-0.5', "'=1+1", "''=1", "'tis"]
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def text_of(written: str) -> str:
    """Return the text of a cell that :func:`cell` wrote."""
    return written[1:] if written.startswith("'") and _FORMULA.match(written) else written


def file_cell(path: str) -> str:
    """Return the cell for the path of a file, which stays a path: ``./=1.png`` for ``=1.png``."""
    return f"./{path}" if _FORMULA.match(path) else path


def line_of(cells: Iterable[str]) -> str:
    """Return a line of a CSV file, as Python's ``csv`` writes and reads it. A carriage return is quoted too: before
    Python 3.13, ``csv`` leaves it bare where lines end in a mere line feed, and then reads it as the end of the line.
    """
    quoted = ('"' + each.replace('"', '""') + '"' if _QUOTED.search(each) else each for each in cells)
    return ",".join(quoted) + "\n"
