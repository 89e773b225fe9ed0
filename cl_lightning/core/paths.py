"""Where files are: a path that was typed made absolute, once, and a path as it is told to the user."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cl_lightning.core.errors import UserError
from cl_lightning.core.printable import PrintableFormatter, printable


def absolute(typed: str, folder: Path) -> Path:
    """Return what ``typed`` names for somebody who stands in ``folder`` (absolute, as ``Path.cwd()`` gives it).

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
    """A path among the arguments of a command, for argparse: no shell fills in the ``~`` of ``--out=~/found.csv``."""
    return Path(os.path.expanduser(typed))


def display_path(path: Path) -> Path:
    """A path as the user would type it from here: relative where it is below the working directory."""
    return path.relative_to(Path.cwd()) if Path.cwd() in path.parents else path


def let_any_name_be_printed() -> None:
    """Names of files are bytes: those that are no UTF-8 go to stdout as they are, where they would raise otherwise; and
    warnings that no handler takes, which Python then prints itself, carry nothing out in a terminal.
    """
    _open_what_is_closed()
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(PrintableFormatter("%(message)s"))
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="surrogateescape")


def _open_what_is_closed() -> None:
    """Open stdin, stdout and stderr on nothing where who started us has closed them (``>&-``). The next file would take
    such a number, and get what libraries print.
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
    """What the system says within this block against writing is told in a line: the place that it names, else ``what``,
    and ``mend``, which says what to type.

    Raises ``UserError`` in place of an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise UserError(cannot_be_written(error, what, mend)) from error


def cannot_be_written(error: OSError, what: Path | str, mend: str) -> str:
    """One line on a place in which nothing can be made."""
    place = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else what
    reason = error.strerror or str(error) or type(error).__name__
    where = str(display_path(place) if isinstance(place, Path) else place)
    return f"{printable(where)} cannot be written ({reason}): {mend}"
