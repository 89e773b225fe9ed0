"""The file in which Weights & Biases stores a run on this machine, as far as it was really written.

It is a log in the format of LevelDB behind a header of seven bytes: blocks of 32 KiB hold pieces of records, each piece
with the CRC-32 of its kind and content (4 bytes), length (2), kind (1) and content. wandb hands blocks to the operating
system when they are full, rarely earlier, or when the run ends: of a process that was killed, the last points are
missing.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.file_type import read_file

HEADER = b":W&B\xe1\xbe\x00"
_BLOCK = 32768
_PIECE = struct.Struct("<IHB")
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def read_records(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield the records at the start of the file, each with the byte at which it ends.

    The iteration ends at a record that is incomplete or damaged.

    Raises:
        InvalidFileError: the file is of another format.
    """
    data = read_file(path)
    if data[: len(HEADER)] != HEADER[: len(data)]:
        mend = {"wandb": False}
        raise InvalidFileError(path, "is no file of wandb that this program can read", allowed=mend)
    record = b""
    for kind, content, end in _pieces(data):
        record += content
        if kind in (_WHOLE, _LAST):
            yield record, end
            record = b""


def _pieces(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    position = len(HEADER)
    while True:
        if _BLOCK - position % _BLOCK < _PIECE.size:  # too little space for another piece: it was left empty
            position += _BLOCK - position % _BLOCK
        start = position + _PIECE.size
        if start > len(data):
            return
        checksum, length, kind = _PIECE.unpack(data[position:start])
        position = start + length
        content = data[start:position]
        if kind not in (_WHOLE, _FIRST, _MIDDLE, _LAST) or zlib.crc32(bytes([kind]) + content) != checksum:
            return
        yield kind, content, position
