"""The width of what is printed: a terminal's own, and one width for logs and pipes."""

from __future__ import annotations

import os
import textwrap
from typing import TextIO

ELSEWHERE = 100
"""Characters a line where there is no terminal: it reads well in a log file."""
_NARROWEST = 40


def text_width(stream: TextIO) -> int:
    """Return the number of characters of a line on ``stream``, at least 40: ``COLUMNS`` if it is set, else the width of
    the terminal, else 100.
    """
    typed = os.environ.get("COLUMNS", "")
    if typed.isascii() and typed.isdecimal() and int(typed) > 0:
        return max(_NARROWEST, int(typed))
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):  # no terminal, a closed stream, or none that the system knows
        columns = 0
    return max(_NARROWEST, columns) if columns else ELSEWHERE


def folded(text: str, width: int, indent: int = 0) -> str:
    """Return the text in lines of at most ``width`` characters, all but the first indented. Words stay whole, so that a
    path can be copied.

    >>> print(folded("files  a path", 9, indent=7))
    files  a
           path
    """
    return textwrap.fill(text, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
