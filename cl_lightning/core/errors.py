"""Errors that are the user's to mend: told in one line, without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cl_lightning.core.printable import printable


class UserError(Exception):
    """A wrong configuration or input; the message is one line that says what to type."""

    def __init__(self, line: str) -> None:
        super().__init__(printable(line))


class UnreadableImageError(UserError, ValueError):
    """A file that is no picture, found when it was wanted."""


@contextmanager
def told_to_user() -> Iterator[None]:
    """Everything that a ``ValueError`` says within this block is about what the user asked for."""
    try:
        yield
    except (ValueError, FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise UserError(" ".join(str(error).split())) from error


class RunAbortedError(Exception):
    """Something outside of the program ended the run (a full disk, a process that was killed); one line says what. What
    had been written is still there.
    """
