"""Text that comes from elsewhere (names of files and classes, messages of foreign files) made safe to be told.

Whoever names a file chooses the bytes that a terminal is sent. Some of them move the cursor, hide what was written
before, or turn the order of letters around: those are told as escapes, wherever the program tells something.
"""

from __future__ import annotations

import logging
import re

# Controls of ASCII and of ISO 8859 (a terminal takes \x9b for ESC [), what is no UTF-8, line and paragraph separators,
# and marks and overrides of the direction of writing. Joiners stay: Persian names and emoji are spelt with them.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_UNSAFE_IN_LINES = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def printable(text: str) -> str:
    r"""Return the text as one line: what a terminal would carry out, and bytes that are no UTF-8, as escapes.

    >>> printable("cat\x1b[2J\n.png")
    'cat\\x1b[2J\\n.png'
    """
    return _UNSAFE.sub(_escape, text)


def printable_lines(text: str) -> str:
    """Return the same of a text whose line breaks and tabs are its own."""
    return _UNSAFE_IN_LINES.sub(_escape, text)


def json_for_terminals(text: str) -> str:
    """Return JSON that means the same, with its own escapes for what a terminal would carry out."""
    return _UNSAFE_IN_LINES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _escape(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


class PrintableFormatter(logging.Formatter):
    """Writes records of a log so that nothing in them moves a cursor or begins a line that is none."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record in lines; what was handed over beside the message stays within one."""
        if record.args:
            told = logging.makeLogRecord(record.__dict__)
            told.args = _in_one_line(record.args)
            record = told
        return printable_lines(super().format(record))


def _in_one_line(arguments: object) -> tuple[object, ...]:
    """Return what a message is filled with: numbers as they are, for ``%d``, and the rest as text."""
    given = arguments if isinstance(arguments, tuple) else (arguments,)
    return tuple(each if isinstance(each, int | float) else printable(str(each)) for each in given)
