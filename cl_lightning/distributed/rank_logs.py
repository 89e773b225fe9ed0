"""Logs of a run's ranks but the first, which has the terminal: a file each, and the line in it that names an error."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cl_lightning.core.atomic_write import open_to_append
from cl_lightning.core.errors import UserError


@dataclass(frozen=True)
class RankLog:
    """Output of one rank: the content of its file from ``start`` on."""

    path: Path
    start: int

    def error(self) -> str | None:
        """Return the line that names the error: our own, or the exception below a traceback, else the last one.

        Libraries still warn at exit, and torch marks each line with its rank, so the last line alone may say little.
        """
        output = b""
        with suppress(OSError), self.path.open("rb") as file:
            file.seek(max(self.start, file.seek(0, os.SEEK_END) - 65536))
            output = file.read()
        found, last, within = None, None, False
        for line in output.decode("utf-8", "replace").splitlines():
            line = re.sub(r"^\[rank\d+\]: ?", "", line).rstrip()
            if line.startswith("Traceback "):
                within = True
            elif line.startswith("error: ") or (within and line and not line[0].isspace()):
                found, within = line.removeprefix("error: "), False
            last = line.strip() or last
        return found or last


@contextmanager
def rank_logs(folder: Path, world_size: int) -> Iterator[list[RankLog | None]]:
    """Open a log for each rank but the first; remove the empty ones after the block."""
    files: list[RankLog | None] = [None]
    made = [path for path in (folder, *folder.parents) if world_size > 1 and not path.exists()]
    try:
        for index in range(1, world_size):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"rank_{index}.log"
            with os.fdopen(open_to_append(path), "ab") as file:
                files.append(RankLog(path, file.seek(0, os.SEEK_END)))
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}; type another run_dir") from error
    try:
        yield files
    finally:
        with suppress(OSError):  # other files are in the folder by now
            for log in filter(None, files):
                if log.path.stat().st_size == 0:
                    log.path.unlink()
            for path in made:
                path.rmdir()
