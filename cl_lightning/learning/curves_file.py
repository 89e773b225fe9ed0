"""The CSV file of curves: a killed process loses no row of it, and its bytes are a function of its rows alone.

Hence a file that is cut back to a checkpoint and written on has, in the end, the bytes of one that was never cut,
however often that happens: columns are those that some row has a value for, sorted; values are text, and stay as they
were written.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cl_lightning.core.atomic_write import open_to_append, write_atomic
from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.file_type import read_file

Row = dict[str, str]
"""Column -> value as text; what a row has no value for is not in it."""

STEP = "step"
TASK = "task/index"
PHASE = "phase/index"
"""The axes: every row is at a step, those of curves over tasks at a task too, and those of evaluations after phases are
counted. All are whole numbers.
"""


class CurvesFile:
    """Rows are appended and handed to the operating system at once; ``sync`` puts them on the disk.

    There is one writer a file. Every operation may raise ``OSError``, which then names the file.
    """

    def __init__(self, path: Path, kept_rows: Iterable[Row] = ()) -> None:
        """Replace what is at ``path`` by ``kept_rows``, in one stroke."""
        self._path = path
        self._columns: list[str] = []
        self._replace(list(kept_rows))

    def append(self, values: Mapping[str, float], step: int) -> None:
        """One more row.

        A column that is new is put in its place in all rows, by replacing the file in one stroke: it rarely happens.
        """
        row = {**{name: str(value) for name, value in values.items()}, STEP: str(step)}
        if row.keys() <= set(self._columns):
            with _named(self._path), os.fdopen(open_to_append(self._path, new=False), "ab", buffering=0) as file:
                left = memoryview(_table(self._columns, [row]).encode())
                while left:
                    left = left[file.write(left) :]
        else:
            self._replace([*read_rows(self._path), row])

    def sync(self) -> None:
        """Wait until a power cut takes none of the rows away."""
        with _named(self._path), os.fdopen(open_to_append(self._path, new=False), "ab") as file:
            os.fsync(file.fileno())

    def _replace(self, rows: list[Row]) -> None:
        columns = sorted({STEP}.union(*rows))
        header = dict(zip(columns, columns, strict=True))
        with _named(self._path):
            write_atomic(self._path, _table(columns, [header, *rows]))
        self._columns = columns


def read_rows(path: Path) -> list[Row]:
    """The rows of a file of curves, each value as it was written; none if there is no file.

    Lines of which a killed process or a power cut left a part, or zeros, are no rows.

    Raises:
        InvalidFileError: it is not a file of curves.
        OSError: it cannot be read.
    """
    return read_curves(path)[0]


def read_curves(path: Path) -> tuple[list[Row], int]:
    """The same, and how many lines are damaged. Raises as :func:`read_rows`."""
    try:
        data = read_file(path)
    except FileNotFoundError:
        return [], 0
    *whole, rest = data.split(b"\n")
    kept = [line for line in whole if b"\0" not in line]
    damaged = len(whole) - len(kept) + bool(rest)
    if whole and b"\0" in whole[0]:  # nobody knows the columns of the others
        return [], len(whole) + bool(rest)
    text = b"".join(line + b"\n" for line in kept).decode("utf-8", errors="replace")
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(lines, [STEP])
        if STEP not in header or len(set(header)) < len(header):
            raise ValueError("columns must be different, and one of them step")
        return [_row(header, cells) for cells in lines], damaged
    except (ValueError, csv.Error) as error:
        raise InvalidFileError(
            path,
            f", line {lines.line_num}, is no line of curves ({error})",
            "delete the file to go on without its rows",
            {"csv": False},
        ) from error


def _row(header: list[str], cells: list[str]) -> Row:
    """Raises ``ValueError`` if this is no row."""
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} values for {len(header)} columns")
    row = {name: cell for name, cell in zip(header, cells, strict=True) if cell}
    for name in (STEP, TASK, PHASE):
        value = row.get(name, "missing" if name == STEP else "0")
        if not value.isdecimal():
            raise ValueError(f"{name} is {value}, not a whole number")
    return row


def _table(columns: list[str], rows: Iterable[Row]) -> str:
    text = io.StringIO(newline="")
    csv.DictWriter(text, columns, restval="").writerows(rows)
    return text.getvalue()


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """A full disk does not say by itself which file it was."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
