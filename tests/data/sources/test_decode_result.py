"""The result of one image file: its digest, whether it decodes, and what an earlier result saves."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from cl_lightning.data.sources import decode_result
from cl_lightning.data.sources.decode_result import DecodeResult, Stamp, decode_file, stamp_of
from tests.data.scanned import save

LIMIT = 60 * 40


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_file_that_decodes_has_digest_and_pixels(file: Path) -> None:
    taken = hashlib.blake2b(file.read_bytes(), digest_size=16).digest()
    assert decode_file(str(file), None, LIMIT) == DecodeResult(stamp_of(str(file)), taken, None, LIMIT)  # type: ignore[arg-type]


def test_the_same_bytes_are_not_decoded_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = decode_file(str(file), None, LIMIT)
    monkeypatch.setattr(decode_result, "decode", lambda *_, **__: pytest.fail("it was decoded"))
    assert decode_file(str(file), first, LIMIT) == first
    file.chmod(0o600)
    assert decode_file(str(file), first._replace(stamp=Stamp(1, 1, 1)), LIMIT) == first._replace(
        stamp=stamp_of(str(file))
    )


def test_the_number_of_pixels_is_added_to_a_result_of_an_earlier_version(file: Path) -> None:
    first = decode_file(str(file), None, LIMIT)
    assert decode_file(str(file), first._replace(pixels=0), LIMIT) == first


def test_too_many_pixels_are_no_lasting_result(file: Path) -> None:
    found = decode_file(str(file), None, LIMIT - 1)
    assert found.broken is not None
    assert (found.pixels, found.lasting) == (LIMIT, False), "another run may allow them"


def test_a_file_that_does_not_decode_says_why_without_the_name_of_a_buffer(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"<html>404</html>")
    found = decode_file(str(tmp_path / "a.png"), None, LIMIT)
    assert (found.broken, found.pixels, found.lasting) == ("cannot identify image file", 0, True)
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    assert decode_file(str(tmp_path / "a.png"), found, LIMIT).broken is None


def test_a_file_that_is_gone_is_asked_for_again(tmp_path: Path) -> None:
    assert stamp_of(str(tmp_path / "a.png")) is None
    found = decode_file(str(tmp_path / "a.png"), None, LIMIT)
    assert found == DecodeResult(Stamp(0, 0, 0), bytes(16), "No such file or directory", lasting=False)
