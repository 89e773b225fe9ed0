"""One picture from file to levels: how much of it is evaluated, what is too long a strip, in which colours."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cl_lightning.core.rng import Key
from cl_lightning.data.sources.decoding import (
    USUAL,
    Scaling,
    centre,
    decode,
    random_crop,
    reason,
    resized,
    to_tensor,
)  # fmt: skip
from cl_lightning.data.sources.image_formats import TooLargeError


def gradient(width: int, height: int) -> Image.Image:
    """Red grows with the column, green with the row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width)[None], np.arange(height)[:, None]
    return Image.fromarray(pixels)


def test_the_published_ratio_of_scaling_and_cutting() -> None:
    assert [USUAL.short_side(size) for size in (224, 32, 8, 1)] == [256, 36, 9, 1]
    assert all(USUAL.short_side(size) == size * 256 // 224 for size in range(1, 1 << 14)), (
        "as before there was a choice"
    )
    assert [Scaling(crop_share=share).short_side(224) for share in (0.9, 0.95, 1.0)] == [248, 235, 224], "as timm's"


@pytest.mark.parametrize(("width", "height", "left", "top"), [(20, 10, 6, 1), (10, 21, 1, 6), (10, 10, 1, 1)])
def test_the_middle_is_cut_out(width: int, height: int, left: int, top: int) -> None:
    """Without scaling: the short side has its length already. Halves are rounded to even: of 6.5, 6."""
    found = to_tensor(centre(gradient(width, height), 8, 10))
    assert found.shape == (3, 8, 8)
    assert found[0, 0].tolist() == list(range(left, left + 8))
    assert found[1, :, 0].tolist() == list(range(top, top + 8))


def test_the_long_side_is_cut_down_and_not_rounded() -> None:
    """29 x 10 at a short side of 5: 14 pixels, not 14.5 or 15; the same for both ways up."""
    wide = centre(gradient(29, 10), 5, 5)
    expected = gradient(29, 10).resize((14, 5), Image.Resampling.BICUBIC).crop((4, 0, 9, 5))
    assert np.array_equal(np.array(wide), np.array(expected))


def test_a_strip_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(ValueError, match="60000 x 1 pixels are too long a strip to be scaled to 256"):
        centre(Image.new("L", (60_000, 1)), 224, 256)


def test_a_picture_of_the_size_is_left_alone_and_others_are_resized_plane_by_plane() -> None:
    pixels = to_tensor(gradient(6, 6))
    assert resized(pixels, 6) is pixels
    found = resized(pixels, 3)
    for plane, own in zip(pixels, found, strict=True):
        expected = Image.fromarray(plane.numpy()).resize((3, 3), Image.Resampling.BICUBIC)
        assert torch.equal(own, torch.from_numpy(np.array(expected)))


def png(image: Image.Image, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    file.seek(0)
    return file


def test_colours_of_other_modes() -> None:
    deep = Image.fromarray(np.array([[0, 255, 256, 65535]], np.uint16))
    assert to_tensor(decode(png(deep)))[0].tolist() == [[0, 0, 1, 255]], "the high byte, not clipped"
    clear = Image.new("RGBA", (1, 1), (10, 20, 30, 0))
    assert to_tensor(decode(png(clear))).flatten().tolist() == [10, 20, 30], "transparency is left out"
    grey = Image.new("L", (1, 1), 7)
    assert to_tensor(decode(png(grey))).flatten().tolist() == [7, 7, 7]


def test_pixels_without_a_range_and_too_many_are_refused(tmp_path: Path) -> None:
    Image.new("F", (2, 2)).save(tmp_path / "a.tiff")
    with pytest.raises(ValueError, match="pixels of mode F have no fixed range"):
        decode(tmp_path / "a.tiff")
    with pytest.raises(TooLargeError):
        decode(png(gradient(10, 10)), max_pixels=99)
    assert decode(png(gradient(10, 10)), max_pixels=100).size == (10, 10)


def test_turned_upright_where_that_is_asked_for() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise shows it upright
    file = png(gradient(3, 2), exif=exif)
    assert decode(file).size == (3, 2)
    file.seek(0)
    upright = decode(file, turned=True)
    assert upright.size == (2, 3)
    assert upright.getpixel((1, 0)) == (0, 0, 0), "top left has come to the top right"


def test_random_boxes_lie_within_the_picture_and_differ_by_position() -> None:
    boxes = [random_crop(50, 40, Key(3), position) for position in range(200)]
    assert all(0 <= left < right <= 50 and 0 <= top < bottom <= 40 for left, top, right, bottom in boxes)
    assert len(set(boxes)) > 190
    shares = [(right - left) * (bottom - top) / 2000 for left, top, right, bottom in boxes]
    assert min(shares) < 0.15
    assert max(shares) > 0.8


def test_an_error_s_reason_is_one_line() -> None:
    assert reason(ValueError("wrong\nmore")) == "wrong"
    assert reason(OSError()) == "OSError"
