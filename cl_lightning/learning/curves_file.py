"""CSV file of curves: a killed process loses no row of it, and its bytes are a function of its rows alone.

Hence a file that is cut back to a checkpoint and continued has, in the end, the bytes of one that was never cut,
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
"""Column -> value as text; empty cells are left out."""

STEP = "step"
TASK = "task/index"
PHASE = "phase/index"
PHASE_TASK = "phase/task"
"""Names of the axes: every row has a step, a row of curves over tasks also a task, and a row of an evaluation after a
phase its index, and its task's. All are whole numbers.
"""


class CurvesFile:
    """File whose rows are appended and handed to the operating system at once; ``sync`` puts them on the disk.

    There is one writer a file. Every operation may raise ``OSError``, which then names the file.
    """

    def __init__(self, path: Path, rows: Iterable[Row] = ()) -> None:
        """Replace the file at ``path`` by ``rows``, atomically."""
        self._path = path
        self._columns: list[str] = []
        self._replace(list(rows))

    def append(self, values: Mapping[str, float], step: int) -> None:
        """Append a row.

        A new column is inserted in all rows, by replacing the file atomically: it rarely happens.
        """
        row = {**{name: str(value) for name, value in values.items()}, STEP: str(step)}
        if row.keys() <= set(self._columns):
            with _named(self._path), os.fdopen(open_to_append(self._path, new=False), "ab", buffering=0) as file:
                rest = memoryview(_table(self._columns, [row]).encode())
                while rest:
                    rest = rest[file.write(rest) :]
        else:
            self._replace([*read_rows(self._path), row])

    def sync(self) -> None:
        """Wait until all rows would survive a power cut."""
        with _named(self._path), os.fdopen(open_to_append(self._path, new=False), "ab") as file:
            os.fsync(file.fileno())

    def _replace(self, rows: list[Row]) -> None:
        columns = sorted({STEP}.union(*rows))
        header = dict(zip(columns, columns, strict=True))
        with _named(self._path):
            write_atomic(self._path, _table(columns, [header, *rows]))
        self._columns = columns


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a file of curves, each value as it was written; none if there is no file.

    Lines that a killed process or a power cut left incomplete, or as zeros, are no rows.

    Raises:
        InvalidFileError: it is not a file of curves.
        OSError: it cannot be read.
    """
    return read_curves(path)[0]


def read_curves(path: Path) -> tuple[list[Row], int]:
    """Return the rows and the number of damaged lines. Raises as :func:`read_rows`."""
    try:
        data = read_file(path)
    except FileNotFoundError:
        return [], 0
    *whole, rest = data.split(b"\n")
    sound = [line for line in whole if b"\0" not in line]
    damaged = len(whole) - len(sound) + bool(rest)
    if whole and b"\0" in whole[0]:  # without a header no column is known
        return [], len(whole) + bool(rest)
    text = b"".join(line + b"\n" for line in sound).decode("utf-8", errors="replace")
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


def as_number(text: str) -> float:
    """Return the value of a cell."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def _row(header: list[str], cells: list[str]) -> Row:
    """Return the row of a line's cells. Raises ``ValueError`` if they are not one."""
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
    """Name the file in an ``OSError`` of the block: a full disk does not name it by itself."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
