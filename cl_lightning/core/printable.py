"""Text from elsewhere (names of files and classes, messages of foreign files) made safe to print.

The author of a file's name chooses the bytes that a terminal is sent. Some of them move the cursor, hide earlier
output, or reverse the order of letters: every message of the program shows those as escapes.
"""

from __future__ import annotations

import logging
import re

# Controls of ASCII and of ISO 8859 (a terminal takes \x9b for ESC [), what is no UTF-8, line and paragraph separators,
# and marks and overrides of the direction of writing. Joiners stay: Persian names and emoji are spelt with them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_UNSAFE_IN_LINES = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def printable(text: str) -> str:
    r"""Return the text as one line, with control characters and bytes that are not UTF-8 as escapes.

    >>> printable("cat\x1b[2J\n.png")
    'cat\\x1b[2J\\n.png'
    """
    return _UNSAFE.sub(_escape, text)


def printable_lines(text: str) -> str:
    """Return the text with the same escapes, but its own line breaks and tabs."""
    return _UNSAFE_IN_LINES.sub(_escape, text)


def json_for_terminals(text: str) -> str:
    """Return equivalent JSON, with JSON's own escapes for control characters."""
    return _UNSAFE_IN_LINES.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _escape(match: re.Match[str]) -> str:
    return ascii(match[0])[1:-1]


class PrintableFormatter(logging.Formatter):
    """Formatter of log records in which nothing moves the cursor or begins a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as lines; each argument of the message stays within one."""
        if record.args:
            safe = logging.makeLogRecord(record.__dict__)
            safe.args = _in_one_line(record.args)
            record = safe
        return printable_lines(super().format(record))


def _in_one_line(arguments: object) -> tuple[object, ...]:
    """Return the arguments of a message: numbers as they are, for ``%d``, and the rest as text in one line."""
    given = arguments if isinstance(arguments, tuple) else (arguments,)
    return tuple(each if isinstance(each, int | float) else printable(str(each)) for each in given)
