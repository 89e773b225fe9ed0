"""Errors that are the user's to mend: reported in one line, without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cl_lightning.core.printable import printable


class UserError(Exception):
    """A wrong configuration or input; the message is one line that says what to type."""

    def __init__(self, line: str) -> None:
        super().__init__(printable(line))


class UnreadableImageError(UserError, ValueError):
    """A file that is no picture, found when it was read."""


@contextmanager
def told_to_user() -> Iterator[None]:
    """Raise ``UserError`` for a ``ValueError`` of the block, or for a missing or forbidden file: bad input."""
    try:
        yield
    except (ValueError, FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise UserError(" ".join(str(error).split())) from error


class RunAbortedError(Exception):
    """An end of the run caused from outside of the program (a full disk, a killed process); the message is one line.
    All that had been written is still there.
    """
