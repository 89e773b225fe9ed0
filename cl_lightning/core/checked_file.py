"""Files of tensors that show by themselves whether they were altered: the output of ``torch.save``, followed by a mark
and the SHA-256 of all that precedes them; ``torch.load`` reads them unchanged.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, BinaryIO

import torch

from cl_lightning.core.atomic_write import make_folder, replace_file
from cl_lightning.core.file_type import foreign_kind
from cl_lightning.core.types import Plain

_MARK = b"\ncl_lightning sha256 "
_TRAILER = len(_MARK) + hashlib.sha256().digest_size
NO_END = "its end is missing"


class AlteredError(Exception):
    """A file that is not as it was written: torn, or changed afterwards."""


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
        return NO_END
    return None if trailer == _MARK + digest.digest() else "its checksum does not agree with its contents"
