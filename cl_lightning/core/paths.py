"""Paths of files: a typed path made absolute, once, and a path as messages show it."""

from __future__ import annotations

import io
import logging
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cl_lightning.core.errors import UserError
from cl_lightning.core.printable import PrintableFormatter, printable


def absolute(typed: str, folder: Path) -> Path:
    """Return the path that ``typed`` names in the working directory ``folder`` (absolute, as ``Path.cwd()`` gives it).

    ``~`` and ``~name`` are home folders where there are such users. Links are followed neither here nor later: a link
    that points elsewhere by tomorrow is the user's way to move the data.
    """
    path = typed_path(typed)
    parts = path.parts
    if path.is_absolute():
        return path
    while parts[:1] == ("..",):  # no link is in a working directory's own name, so that ".." is its parent
        folder, parts = folder.parent, parts[1:]
    return folder.joinpath(*parts)


def typed_path(typed: str) -> Path:
    """Return a path among a command's arguments, for argparse: no shell expands the ``~`` of ``--out=~/found.csv``."""
    return Path(os.path.expanduser(typed))


def display_path(path: Path) -> Path:
    """Return a path as the user would type it: relative where it is below the working directory."""
    return path.relative_to(Path.cwd()) if Path.cwd() in path.parents else path


def let_any_name_be_printed() -> None:
    """Print file names that are not UTF-8 to stdout byte for byte, where they would raise otherwise; keep control
    characters out of the warnings that no handler takes and that Python prints itself.
    """
    _open_what_is_closed()
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PrintableFormatter("%(message)s"))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="surrogateescape")


def _open_what_is_closed() -> None:
    """Open stdin, stdout and stderr on ``/dev/null`` where the parent process has closed them (``>&-``). Otherwise
    the next file would get such a number, and with it the output of libraries.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free: this one
            os.set_inheritable(number, True)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


@contextmanager
def writing(what: Path | str, mend: str) -> Iterator[None]:
    """Raise ``UserError`` for an ``OSError`` of the block: the path that it names, else ``what``, cannot be written.

    The message ends with ``mend``, which says what to type.
    """
    try:
        yield
    except OSError as error:
        raise UserError(cannot_be_written(error, what, mend)) from error


def to_type(option: str, path: Path | str) -> str:
    """Return ``option=path`` as it is typed in a shell: in quotes where the path has spaces or the like."""
    return shlex.quote(f"{option}={path}")


def cannot_be_written(error: OSError, what: Path | str, mend: str) -> str:
    """Return one line on a path in which nothing can be made."""
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else what
    reason = error.strerror or str(error) or type(error).__name__
    where = str(display_path(path) if isinstance(path, Path) else path)
    return f"{printable(where)} cannot be written ({reason}): {mend}"
