"""Reading the file of wandb as far as it was written."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from cl_lightning.learning.wandb_file import HEADER, read_records


def piece(kind: int, content: bytes) -> bytes:
    checksum = zlib.crc32(bytes([kind]) + content)
    return checksum.to_bytes(4, "little") + len(content).to_bytes(2, "little") + bytes([kind]) + content


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run-x.wandb"


def test_a_file_that_ends_anywhere_has_the_records_that_are_whole(path: Path) -> None:
    pieces = [piece(1, b"one"), piece(2, b"tw"), piece(3, b""), piece(4, b"o"), piece(1, b"")]
    data = HEADER + b"".join(pieces)
    ends = [len(HEADER) + sum(map(len, pieces[:n])) for n in (1, 4, 5)]
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        whole = list(zip((b"one", b"two", b""), ends, strict=True))
        assert list(read_records(path)) == [(record, end) for record, end in whole if end <= cut]


def test_a_record_goes_on_in_the_next_block_where_no_piece_has_room(path: Path) -> None:
    first = b"a" * (32768 - len(HEADER) - 7 - 5)
    path.write_bytes(HEADER + piece(1, first) + bytes(5) + piece(1, b"b"))
    assert list(read_records(path)) == [(first, 32763), (b"b", 32776)]


def test_what_is_not_what_was_written_ends_it(path: Path) -> None:
    data = HEADER + piece(1, b"one") + piece(1, b"two") + piece(1, b"three")
    path.write_bytes(data.replace(b"two", b"tvo"))
    assert [record for record, _ in read_records(path)] == [b"one"]
    path.write_bytes(HEADER + piece(1, b"one") + bytes(100))
    assert [record for record, _ in read_records(path)] == [b"one"]


def test_another_format_is_refused(path: Path) -> None:
    path.write_bytes(b"SQLite format 3")
    with pytest.raises(ValueError, match=r"run-x.wandb is no file of wandb .*: pass wandb=False"):
        list(read_records(path))
