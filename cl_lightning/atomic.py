"""Files that are replaced in one stroke: whoever reads one, after a kill at any instant too, finds all of the old or of
the new.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def replace_file(path: Path, write: Callable[[BinaryIO], object], part: Path | None = None) -> None:
    """Let ``write`` fill a file beside ``path``, which then takes its place.

    One writer a file: a part left behind by a killed one is overwritten by the next. Where several may write at once,
    each names a ``part`` of its own.

    Raises:
        OSError: no room, or no right to write; what was at ``path`` is still there.
    """
    part = part or path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)  # a full disk does not say where
        raise
    _sync_folder(path.parent)


def write_atomic(path: Path, text: str) -> None:
    """Replace a file's text; see :func:`replace_file`. Of a path in it that is no UTF-8, such bytes are escaped."""
    replace_file(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def _sync_folder(folder: Path) -> None:
    # The new name itself must survive a power cut.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
