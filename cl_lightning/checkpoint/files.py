"""Checkpoint files: each is whole or missing, shows by itself whether it was altered, and never runs code.

A file is the output of ``torch.save``, followed by a mark and the SHA-256 of all that precedes them; ``torch.load``
reads it unchanged. The names sort by position in the run: ``task_004.pt`` at the end of the fifth task,
``task_005_item_01.pt`` after an item of the next task's plan, ``task_005_item_01_step_00000040.pt`` within one. What
cannot change any more may stand in a file of its own in ``parts/`` (``parts.py``): whoever reads a checkpoint here gets
it whole.
"""

from __future__ import annotations

import hashlib
import logging
import pickle
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from cl_lightning.core import network_parts
from cl_lightning.core.atomic_write import make_folder, replace_file
from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.file_type import ZIP, foreign_kind, kind_of_bytes
from cl_lightning.core.missing_keys import complete_checkpoint
from cl_lightning.core.network_parts import FOLDER, file_of, weights_of
from cl_lightning.core.types import Plain

VERSION = 3
"""Version of the format. Version 1 had no records of the tasks, version 2 no position within a task and no checksum."""
REFERRING = 4
"""Version of a file that refers to parts in files of their own. Once it is read it is one of :data:`VERSION`."""

_MARK = b"\ncl_lightning sha256 "
_TRAILER = len(_MARK) + hashlib.sha256().digest_size
_NAME = re.compile(r"task_(\d+)(?:_item_(\d+)(?:_step_(\d+))?)?\.pt")
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_NO_END = "its end is missing"
KEPT_WITHIN_TASK = 2
"""Number of places within the current task that are kept: the last one, and one to go back to."""
log = logging.getLogger(__name__)


@dataclass(frozen=True, order=True)
class Position:
    """Position in a run: finished tasks, items and steps."""

    tasks: int = 0
    """Number of finished tasks."""
    items: int = 0
    """Number of finished items of the next task's plan."""
    steps: int = 0
    """Optimiser steps taken within the next item."""

    @property
    def file_name(self) -> str:
        """Name of the file for this position; the very beginning has none."""
        assert self != Position(), "there is nothing to save of a run that has done nothing"
        if self.items == self.steps == 0:
            return f"task_{self.tasks - 1:03d}.pt"
        step = f"_step_{self.steps:08d}" if self.steps else ""
        return f"task_{self.tasks:03d}_item_{self.items:02d}{step}.pt"

    @staticmethod
    def of(path: Path) -> Position | None:
        """Return the position of a file name; None for other files."""
        match = _NAME.fullmatch(path.name)
        if match is None:
            return None
        task, item, step = match.groups()
        return Position(int(task) + 1) if item is None else Position(int(task), int(item), int(step or 0))


class AlteredError(Exception):
    """A file that is not as it was written: torn, or changed afterwards."""


class PartError(AlteredError):
    """A part of a checkpoint that is missing, or not as it was written."""

    def __init__(self, part: Path, reason: str) -> None:
        self.part = part
        self.reason = reason
        super().__init__(f"its part {part.name} {reason}")


def write_checkpoint(folder: Path, position: Position, payload: dict[str, Plain]) -> Path:
    """Save ``payload`` as the state at ``position``: at any instant the file is whole or missing.

    The end of the last task stays beside it, and the last two positions within tasks; older files are removed.

    Raises:
        OSError: no space, or no right to write. Earlier files are still there.
    """
    path = folder / position.file_name
    save_whole(path, payload)
    for old in _superseded(folder, position):
        if old.is_symlink() or not old.is_dir():
            old.unlink(missing_ok=True)
    return path


def save_whole(path: Path, payload: dict[str, Plain]) -> None:
    """Write ``payload`` and its checksum to ``path`` atomically."""

    def write(file: BinaryIO) -> None:
        stream = HashingFile(file)
        torch.save(payload, stream)  # type: ignore[arg-type]
        stream.finish()

    make_folder(path.parent)
    replace_file(path, write)


class HashingFile:
    """File that hashes its content. torch must not see an error while it writes (it would end the process in a
    destructor), so the first one is stored and raised at the end.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._error: BaseException | None = None

    def write(self, data: Any) -> int:
        """Write ``data``, and report all of it as written to torch."""
        try:
            if self._error is None:
                self._digest.update(data)
                self._file.write(data)
        except BaseException as error:  # Ctrl-C too
            self._error = error
        return len(data)

    def flush(self) -> None:
        """Do nothing: torch calls it."""

    def finish(self) -> None:
        """Append the checksum, or raise the stored error."""
        if self._error is not None:
            raise self._error
        self._file.write(_MARK + self._digest.digest())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it. Keys that are newer than the file get the values that held before
    they came.

    Raises:
        AlteredError: it is not as it was written; ``PartError``: a part is missing, or is not.
        InvalidFileError: it is of another version, or holds more than tensors and plain values (code, for example).
    """
    altered = alteration(path)
    if altered not in (None, _NO_END):
        raise AlteredError(altered)
    _check_begin(path)
    payload = _read(path, altered)
    version = payload.get("version") if isinstance(payload, dict) else None
    if type(version) is not int or version not in (VERSION, REFERRING):
        # Older ones have no checksum, so their number is checked first.
        reason = f"has format {version}, this program reads format {VERSION}"
        raise InvalidFileError(path, reason, "use the release that wrote it")
    if altered is not None:
        raise AlteredError(altered)
    if version == REFERRING:
        whole = network_parts.joined(payload, lambda digest: _read_part(path.parent / FOLDER, digest))
        payload = {**whole, "version": VERSION}
    return complete_checkpoint(payload)


def _read_part(folder: Path, digest: str) -> dict[str, Tensor]:
    """Return the weights of a part. Raises ``PartError`` if it is missing or not as it was written."""
    file = file_of(folder, digest)
    if not file.exists():
        raise PartError(file, f"is missing: it must stand in {folder}")
    try:
        if (altered := alteration(file)) is not None:
            raise AlteredError(altered)
        return weights_of(_read(file, None), digest)
    except (AlteredError, ValueError) as error:
        raise PartError(file, f"in {folder} cannot be used: {error}") from error


def _check_begin(path: Path) -> None:
    """Raise ``AlteredError`` for a file that ``torch.save`` did not write, however little of it is left. A whole pickle
    passes: it could be code, and was not torn.
    """
    with path.open("rb") as file:
        begin = file.read(256)
        file.seek(max(0, path.stat().st_size - 1))
        end = file.read()
    if begin.startswith(ZIP) or (_PICKLE.match(begin) and end == b"."):
        return
    raise AlteredError(f"it is {kind_of_bytes(begin) or 'no checkpoint, or its beginning is gone'}")


def _read(path: Path, altered: str | None) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about foreign kinds of pickle, which are refused anyway
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "holds more than tensors and plain values, which could be code"
        raise InvalidFileError(path, reason, "it is refused, and nothing in it has been run") from error
    except Exception as error:  # any error of a reader that meets foreign bytes
        raise AlteredError(altered or f"it cannot be read: {_first_line(error)}") from error


def last_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the last state in ``folder`` that can be read, and its file; None if there is none. A torn or altered file
    is named in a warning, and the one before it is taken.

    Raises ``InvalidFileError`` if none can be read for want of a part: nobody shall train all of a run again, over
    checkpoints that may be whole, because a folder was not copied.
    """
    lacking: PartError | None = None
    for path in reversed(list_checkpoints(folder)):
        try:
            return path, load_checkpoint(path)
        except (AlteredError, OSError) as error:
            log.warning("%s cannot be used (%s): going back to the one before", path, error)
            lacking = error if isinstance(error, PartError) else lacking
    if lacking is not None:
        mend = "put it there from a copy of the run's folder, or start a new run"
        raise InvalidFileError(lacking.part, "is missing or altered, and no checkpoint can be used without it", mend)
    return None


def list_checkpoints(folder: Path) -> list[Path]:
    """Return all checkpoints in ``folder``, in the order in which they were written."""
    found = [(position, path) for path in folder.glob("task_*.pt") if (position := Position.of(path)) is not None]
    return [path for _, path in sorted(found)]


def checkpoint_bytes(folder: Path) -> int:
    """Return the bytes of all checkpoints in ``folder`` and of their parts."""
    total = 0
    for path in [*list_checkpoints(folder), *(folder / FOLDER).glob("*.pt")]:
        with suppress(OSError):  # another process of the run may be removing it
            total += path.stat().st_size
    return total


def _superseded(folder: Path, last: Position) -> list[Path]:
    """Return the files to remove once the state at ``last`` is saved: older ones, parts of killed writers, and
    seemingly later ones. Those were found altered, or the run would not have been here again.
    """
    found = [(position, path) for path in list_checkpoints(folder) if (position := Position.of(path)) is not None]
    ends = [path for position, path in found if position <= last and position == Position(position.tasks)]
    within = [path for position, path in found if position <= last and position != Position(position.tasks)]
    later = [path for position, path in found if position > last]
    return [*ends[:-1], *within[:-KEPT_WITHIN_TASK], *later, *folder.glob(".task_*.part")]


def alteration(path: Path) -> str | None:
    """Return the reason why the file is not as it was written, None if it is."""
    if path.exists() and not path.is_file():
        raise AlteredError(f"it is {foreign_kind(path)}")
    digest, size = hashlib.sha256(), path.stat().st_size - _TRAILER
    with path.open("rb") as file:
        rest = size
        while rest > 0 and (block := file.read(min(rest, 1 << 20))):
            digest.update(block)
            rest -= len(block)
        trailer = file.read()
    if size < 0 or not trailer.startswith(_MARK):
        return _NO_END
    return None if trailer == _MARK + digest.digest() else "its checksum does not agree with its contents"


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
