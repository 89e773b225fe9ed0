"""Errors that are the user's to mend: reported in one line. Any other is a bug and keeps its traceback."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Literal

from cl_lightning.core.printable import printable

Value = str | int | float | bool | None


class _NotGiven(Enum):
    NOT_GIVEN = "not given"


NOT_GIVEN: Final = _NotGiven.NOT_GIVEN
"""The value of a setting whose value says nothing, such as a list that is too long to be read."""

Allowed = Mapping[str, Value | tuple[Value, ...]]
"""Argument -> what it may be, in words; several ways in a tuple. Each of the arguments mends it by itself."""


class UserError(Exception):
    """A wrong configuration or input; the message is one line that says what to type."""

    def __init__(self, line: str) -> None:
        super().__init__(printable(line))


class InvalidSettingError(ValueError):
    """A value that an argument of the library cannot have. Its text is for callers of the library; what to type on a
    command line is :meth:`Options.line`.

    >>> str(InvalidSettingError("increment", 3, "does not divide the 10 classes of digits", "1, 2, 5 or 10"))
    'increment=3 does not divide the 10 classes of digits: pass increment=1, 2, 5 or 10'
    """

    def __init__(
        self,
        name: str,
        value: object,
        reason: str,
        allowed: Allowed | Value | tuple[Value, ...] | Literal[_NotGiven.NOT_GIVEN] = NOT_GIVEN,
        mend: str = "",
    ) -> None:
        """Take the argument's ``name``, the ``value`` that it has, and the ``reason`` why it cannot.

        ``allowed`` says what ``name`` may be, or maps arguments to what they may be where others mend it too.
        ``mend`` is what else helps.
        """
        super().__init__(name, value, reason, allowed, mend)
        self.name = name
        self.value = value
        self.reason = reason
        self.mend = mend
        self.allowed: Allowed = {}
        if isinstance(allowed, Mapping):
            self.allowed = allowed
        elif allowed is not NOT_GIVEN:
            self.allowed = {name: allowed}

    def __str__(self) -> str:
        return _LIBRARY.line(self)


class InvalidFileError(ValueError):
    """A file or folder of the user's that is not what it should be; ``path`` says which, or what holds it.

    >>> str(InvalidFileError("birds/a.jpg", "is truncated", "repair or remove the file"))
    'birds/a.jpg is truncated: repair or remove the file'
    """

    def __init__(
        self, path: str | os.PathLike[str], reason: str, mend: str = "", allowed: Allowed | None = None, kind: str = ""
    ) -> None:
        """Take ``path``, the ``reason`` why it cannot be used, what helps (``mend``, and what arguments are to be), and
        the ``kind`` of thing that it is, where that is worth a word.
        """
        super().__init__(path, reason, mend, allowed, kind)
        self.path = path
        self.reason = reason
        self.mend = mend
        self.allowed: Allowed = allowed or {}
        self.kind = kind

    def __str__(self) -> str:
        return _LIBRARY.line(self)


class UnreadableImageError(InvalidFileError):
    """A file that is no picture, found when it was read."""


@dataclass(frozen=True)
class Options:
    """Names of the arguments of functions, as they are typed."""

    prefix: str = ""
    """Prefix of an option that has the name of its argument: ``data.``."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Argument -> the whole option, where that has another name."""
    entry: str = ""
    """Entry of a list of settings that is meant: ``data.sets, entry 2 (cub200)``."""
    keys: frozenset[str] = frozenset()
    """Arguments that are typed as keys of that entry: ``increment: 5``."""
    verb: str = "type"

    def name(self, argument: str) -> str:
        """Return the option that is typed for ``argument``."""
        if argument in self.keys:
            return argument
        return self.renamed.get(argument, f"{self.prefix}{argument}")

    def assigned(self, argument: str, value: object) -> str:
        """Return ``value`` for ``argument`` as it is typed."""
        between = ": " if argument in self.keys else "="
        return f"{self.name(argument)}{between}{self._typed(value)}"

    def line(self, error: InvalidSettingError | InvalidFileError) -> str:
        """Return what is wrong and what to type, in one line."""
        if isinstance(error, InvalidFileError):
            what = f"{error.kind} {error.path}".lstrip()
        else:
            what = self.name(error.name) if error.value is NOT_GIVEN else self.assigned(error.name, error.value)
        where = f"{self.entry}: " if self.entry else ""
        return f"{where}{what}{'' if error.reason.startswith((',', ':')) else ' '}{error.reason}{self._mends(error)}"

    def why(self, error: InvalidSettingError | InvalidFileError) -> str:
        """Return reason and mend alone, without the name that they are about."""
        return error.reason.removeprefix(":").lstrip() + self._mends(error)

    def _mends(self, error: InvalidSettingError | InvalidFileError) -> str:
        ways = [
            self.assigned(argument, way)
            for argument, values in error.allowed.items()
            for way in (values if isinstance(values, tuple) else (values,))
        ]
        mends = [*([error.mend] if error.mend else []), *([f"{self.verb} {', or '.join(ways)}"] if ways else [])]
        return f"{': ' if mends else ''}{', or '.join(mends)}"

    def _typed(self, value: object) -> str:
        if isinstance(value, list | tuple):
            return f"[{','.join(map(self._typed, value))}]"
        if value is None or isinstance(value, bool):
            return {None: "null", True: "true", False: "false"}[value]
        return str(value)


class _Arguments(Options):
    """Names of the arguments themselves, for callers of the library."""

    def _typed(self, value: object) -> str:
        return str(value)


_LIBRARY = _Arguments(verb="pass")
_WHOLE_NAMES = Options()


@contextmanager
def worded(options: Options) -> Iterator[None]:
    """Raise ``UserError``, which says what to type, for a setting or a file that is refused within the block."""
    try:
        yield
    except (InvalidSettingError, InvalidFileError) as error:
        raise UserError(_one_line(options.line(error))) from error


@contextmanager
def as_user_error(options: Options = _WHOLE_NAMES) -> Iterator[None]:
    """Raise ``UserError`` as :func:`worded` does, and for files that are missing or may not be read. Any other error is
    a bug: it passes, with its traceback.
    """
    try:
        with worded(options):
            yield
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise UserError(_one_line(str(error))) from error


def _one_line(text: str) -> str:
    return " ".join(text.split())


class RunAbortedError(Exception):
    """An end of the run caused from outside of the program (a full disk, a killed process); the message is one line.
    All that had been written is still there.
    """


class LostWorkerError(RunAbortedError):
    """A process that loads images has ended; with fewer of them the run may go on."""
