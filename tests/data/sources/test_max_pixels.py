"""``data.max_pixels``: a picture of more pixels is never decoded, and is told in a line, wherever pictures are read."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cl_lightning.core.errors import UnreadableImageError
from cl_lightning.data.sources import datasets, decode_result
from cl_lightning.data.sources.decoding import decode
from cl_lightning.data.sources.image_formats import MAX_PIXELS, TooLargeError, is_image, open_image
from tests.data.scanned import cache

__all__ = ["cache"]


def png(width: int, height: int) -> bytes:
    """A file of a few bytes whose header says so."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for index in range(3):
            pixels = np.full((8, 8 + index, 3), 10 * index, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{index}.png")
    return tmp_path / "pictures"


def load(root: Path, **options: object) -> datasets.Sources:
    return datasets.load_sources("image_folder", root, test_share=0.3, **options)  # type: ignore[arg-type]


def test_a_large_picture_is_recognised_by_its_header_alone(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a" / "large.png").write_bytes(png(20_000, 20_000))
    with pytest.raises(ValueError) as told:
        load(root)
    assert "a/large.png (400000000 pixels, more than max_pixels=100000000)" in str(told.value)
    assert "pass on_broken=skip to leave them out, or max_pixels=400000000" in str(told.value)


def test_it_is_left_out_with_its_reason(root: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    (root / "a" / "large.png").write_bytes(png(20_000, 20_000))
    train, test = load(root, on_broken="skip")
    assert test is not None
    assert len(train) + len(test) == 6
    assert "more than max_pixels=100000000" in caplog.text


def test_the_limit_counts_for_what_was_looked_at_before(root: Path, cache: Path) -> None:
    load(root)
    with pytest.raises(ValueError, match=r"80 pixels, more than max_pixels=72"):
        load(root, max_pixels=72)
    load(root)
    load(root, max_pixels=80)


def test_it_counts_for_what_an_earlier_version_looked_at(
    root: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(root)
    (kept,) = cache.rglob("images-*.jsonl")
    lines = kept.read_text().split("\n")
    kept.write_text("\n".join([lines[0], *(line.rpartition(",[")[0] + "]" for line in lines[1:])]))
    monkeypatch.setattr(decode_result, "decode", lambda *_any, **_limit: pytest.fail("decoded again"))
    with pytest.raises(ValueError, match=r"more than max_pixels=72"):
        load(root, max_pixels=72)
    load(root)


def test_one_that_was_too_large_is_decoded_once_it_may_be(root: Path, cache: Path) -> None:
    (root / "a" / "broken.png").write_bytes(png(300, 300))
    with pytest.raises(ValueError, match=r"more than max_pixels=80"):
        load(root, max_pixels=80)
    with pytest.raises(ValueError, match=r"broken\.png \((?!90000 pixels)"):
        load(root, max_pixels=90_000)


def test_loading_checks_it_too(root: Path, cache: Path) -> None:
    train, _ = load(root)
    (root / "a" / "0.png").write_bytes(png(20_000, 20_000))
    (root / "a" / "1.png").write_bytes(png(20_000, 20_000))
    (root / "a" / "2.png").write_bytes(png(20_000, 20_000))
    with pytest.raises(UnreadableImageError, match="pass max_pixels=400000000 to read it"):
        train.load_test(0, 8)


def test_pillows_own_limit_warns_nobody() -> None:
    large = png(9_999, 9_999)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_image(io.BytesIO(large)) as image:
            assert image.width * image.height < MAX_PIXELS
        with open_image(io.BytesIO(png(30_000, 30_000)), 10**9) as image:
            assert image.width == 30_000
    with pytest.raises(TooLargeError):
        decode(io.BytesIO(png(30_000, 30_000)))


def test_a_large_picture_without_a_suffix_is_a_picture(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(png(60_000, 60_000))
    assert is_image(tmp_path / "large")


@pytest.mark.parametrize("form", ["GIF", "TIFF", "JPEG2000", "BMP", "PPM", "WEBP", "JPEG", "AVIF"])
def test_all_formats_say_their_size_in_the_header(form: str) -> None:
    stream = io.BytesIO()
    frames = [Image.new("RGB", (40, 30), (index, 0, 0)) for index in range(3)]
    several = {"save_all": True, "append_images": frames[1:]} if form in ("GIF", "TIFF", "WEBP") else {}
    frames[0].save(stream, form, **several)
    with pytest.raises(TooLargeError, match="1200 pixels"):
        decode(io.BytesIO(stream.getvalue()), max_pixels=1199)
    assert decode(io.BytesIO(stream.getvalue()), max_pixels=1200).size == (40, 30), "of several, the first"


def test_a_strip_is_reported(tmp_path: Path, root: Path, cache: Path) -> None:
    for index in range(3):
        Image.new("RGB", (1, 60_000)).save(root / "a" / f"{index}.png")
    train, _ = load(root)
    with pytest.raises(UnreadableImageError, match="too long a strip to be scaled to 256"):
        train.load_test(0, 224)


def test_tiles_that_are_larger_than_their_picture_count() -> None:
    """A TIFF of 64 x 64 pixels and some hundred bytes, for whose decoder they would take gigabytes."""
    tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 322: 40_000, 323: 40_000, 324: 134, 325: 100}
    entries = b"".join(struct.pack("<HHII", tag, 4 if value > 999 else 3, 1, value) for tag, value in tags.items())
    file = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(104)
    with pytest.raises(TooLargeError, match="1600000000 pixels"):
        decode(io.BytesIO(file))
