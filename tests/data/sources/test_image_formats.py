"""How a file is opened: our formats alone, and upright where that is asked for."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cl_lightning.core.rng import Key
from cl_lightning.data.sources.base import FolderSource
from cl_lightning.data.sources.decoding import decode
from cl_lightning.data.sources.image_formats import EXTENSIONS, FORMATS, OLD_EXTENSIONS, is_image, open_image, suffix
from tests.data.odd_folders import picture

PIXELS = np.zeros((8, 16, 3), np.uint8)
PIXELS[:, 8:] = (255, 0, 0)
PIXELS[4:, :8] = (0, 255, 0)
PIXELS[4:, 8:] = (0, 0, 255)
"""Four corners of four colours, wider than high."""

STORED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}
"""EXIF orientation -> how a camera stores the upright picture, after the table in the standard (tag 274)."""


def photograph(path: Path, form: str, orientation: int) -> Path:
    exif = Image.Exif()
    exif[274] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(form, {})
    stored = np.ascontiguousarray(STORED[orientation](PIXELS))
    Image.fromarray(stored).save(path, form, exif=exif, **options)
    return path


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_a_photograph_is_brought_upright(tmp_path: Path, form: str, orientation: int) -> None:
    path = photograph(tmp_path / "photo", form, orientation)
    upright = np.asarray(decode(path, turned=True)).astype(int)
    assert upright.shape == PIXELS.shape
    assert np.abs(upright - PIXELS).max() <= 4
    if form != "TIFF":  # which Pillow turns by itself
        assert np.abs(np.asarray(decode(path)).astype(int) - STORED[orientation](PIXELS)).max() <= 4


def test_training_evaluation_and_arrays_see_it_alike(tmp_path: Path) -> None:
    for name, orientation in (("plain.png", 1), ("turned.png", 6)):
        photograph(tmp_path / name, "PNG", orientation)
    sources = [FolderSource("photos", tmp_path, (name,), torch.tensor([0]), ("a",), upright=True)
               for name in ("plain.png", "turned.png")]  # fmt: skip
    for load in (
        lambda source: source.load_test(0, 8),
        lambda source: source.load_train(0, 8, Key(0), 3),
        lambda source: source.load_as(0, 8, 1),
    ):
        assert torch.equal(*map(load, sources))
    lying = FolderSource("photos", tmp_path, ("turned.png",), torch.tensor([0]), ("a",))
    assert not torch.equal(lying.load_test(0, 8), sources[0].load_test(0, 8))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_metadata_do_not_break_a_picture(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(tmp_path / "a.jpg", turned=True).size == (16, 8)


def test_no_other_format_is_opened_whatever_it_is_called(tmp_path: Path) -> None:
    """Ghostscript would be started for the first, and a file that a user calls a picture may be any of these."""
    for form in ("EPS", "PDF", "ICO", "TGA", "PCX", "SGI", "ICNS", "DDS", "XBM"):
        image = Image.fromarray(PIXELS).resize((16, 16))
        (tmp_path / "a.jpg").unlink(missing_ok=True)
        (image.convert("1") if form == "XBM" else image).save(tmp_path / "a.jpg", form)
        assert not is_image(tmp_path / "a.jpg"), form
        with pytest.raises(OSError, match="cannot identify image file"):
            decode(tmp_path / "a.jpg")


@pytest.mark.parametrize("form", [*FORMATS, "MPO"])
def test_every_format_is_known_without_its_name(tmp_path: Path, form: str) -> None:
    (tmp_path / "a").write_bytes(picture(form))
    assert is_image(tmp_path / "a")
    assert decode(tmp_path / "a", turned=True).size == (12, 9)


def test_the_first_picture_of_several_is_read() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for form in ("GIF", "TIFF", "PNG", "WEBP"):
        stream = io.BytesIO()
        options = {"WEBP": {"lossless": True}}.get(form, {})
        frames[0].save(stream, form, save_all=True, append_images=frames[1:], **options)
        with open_image(stream) as image:
            assert image.convert("RGB").getpixel((0, 0)) == (255, 0, 0), form


def test_suffixes() -> None:
    assert set(OLD_EXTENSIONS) < set(EXTENSIONS)
    assert [suffix(name) for name in ("a.JPG", "x.y/a", ".png", "a.tar.gz", "a.")] == [".jpg", "", "", ".gz", "."]
