"""Files are seen as evaluation sees them, whatever their mode and size."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cl_lightning.core.errors import Options, UnreadableImageError
from cl_lightning.data.augmentation.resizing import Resize
from cl_lightning.data.sources.base import FolderSource
from cl_lightning.data.sources.decoding import USUAL, Scaling
from cl_lightning.deploy.preprocessing import Preprocessing
from tests.deploy.runs import pictures

GREY = Preprocessing(8, 8, 1, (0.5,), (0.25,))
COLOUR = Preprocessing(16, USUAL.short_side(16), 3, (0.5,) * 3, (0.25,) * 3)


def colourful(width: int, height: int) -> Image.Image:
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    levels = np.stack([across * 255 // width, down * 255 // height, (across * down) % 256], axis=-1)
    return Image.fromarray(levels.astype(np.uint8))


def in_mode(mode: str) -> Image.Image:
    image = colourful(30, 21)
    if mode == "I;16":
        return Image.fromarray((np.arange(30 * 21).reshape(21, 30) * 100).astype(np.uint16))
    if mode == "RGBA":
        image.putalpha(image.convert("L"))
        return image
    return image.quantize(16) if mode == "P" else image.convert(mode)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
def test_a_file_is_seen_as_the_evaluation_of_a_folder_sees_it(mode: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    in_mode(mode).save(tmp_path / "a" / "1.png")
    evaluated = FolderSource.scan(tmp_path, "folder").load_test(0, 16)
    seen = COLOUR.read(tmp_path / "a" / "1.png")
    assert torch.equal(seen, evaluated)
    assert seen.shape == (3, 16, 16)
    assert len(seen.unique()) > (1 if mode == "1" else 10), "no flat picture was compared"


def test_an_orientation_tag_is_applied_or_ignored_as_in_training(tmp_path: Path) -> None:
    tag = Image.Exif()
    tag[0x0112] = 6  # to be turned by 90 degrees
    colourful(30, 21).save(tmp_path / "tagged.png", exif=tag)
    colourful(30, 21).save(tmp_path / "plain.png")
    colourful(30, 21).rotate(-90, expand=True).save(tmp_path / "turned.png")
    assert torch.equal(COLOUR.read(tmp_path / "tagged.png"), COLOUR.read(tmp_path / "plain.png"))
    applying = dataclasses.replace(COLOUR, orientation="apply")
    assert torch.equal(applying.read(tmp_path / "tagged.png"), COLOUR.read(tmp_path / "turned.png"))
    assert Preprocessing.from_plain(applying.to_plain()) == applying


def test_exports_from_before_are_of_models_that_were_trained_without_it() -> None:
    later = ("orientation", "files", "whole", "interpolation", "resize")
    plain = {name: value for name, value in COLOUR.to_plain().items() if name not in later}
    read = Preprocessing.from_plain(plain)
    assert (read.orientation, read.files) == ("ignore", "by_suffix")
    assert (read.whole, read.interpolation, read.resize, read.network_size) == (False, "bicubic", None, 16)


def test_grey_images_of_the_networks_size_pass_unchanged(tmp_path: Path) -> None:
    image = pictures(1)[0]
    Image.fromarray(image[0].numpy()).save(tmp_path / "grey.png")
    Image.fromarray(image[0].numpy()).convert("RGBA").save(tmp_path / "colour.png")
    assert torch.equal(GREY.read(tmp_path / "grey.png"), image)
    assert torch.equal(GREY.read(tmp_path / "colour.png"), image)


def test_where_there_is_one_channel_colours_become_their_luma(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (200, 100, 50)).save(tmp_path / "1.png")
    assert GREY.read(tmp_path / "1.png").unique().tolist() == [round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)]


def test_the_centre_is_kept_of_an_oblong_image(tmp_path: Path) -> None:
    """Black, but for a white square in the middle."""
    wide = np.zeros((8, 40), dtype=np.uint8)
    wide[:, 16:24] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    assert GREY.read(tmp_path / "wide.png").unique().tolist() == [255]


@pytest.mark.parametrize("scaling", [Scaling(True), Scaling(False, 1.0), Scaling(True, interpolation="bilinear")])
def test_a_file_is_scaled_as_the_run_s_files_were(scaling: Scaling, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    colourful(30, 21).save(tmp_path / "a" / "1.png")
    as_run = dataclasses.replace(
        COLOUR, short_side=scaling.short_side(16), whole=scaling.whole, interpolation=scaling.interpolation
    )
    seen = as_run.read(tmp_path / "a" / "1.png")
    assert torch.equal(seen, FolderSource.scan(tmp_path, "folder").load_test(0, 16, scaling))
    assert not torch.equal(seen, COLOUR.read(tmp_path / "a" / "1.png"))
    assert Preprocessing.from_plain(as_run.to_plain()) == as_run


def test_stored_images_are_resized_for_the_network() -> None:
    resizing = dataclasses.replace(GREY, resize=Resize(20, 22, "bicubic"))
    images = torch.stack([image[:1] for image in pictures(2)])
    assert torch.equal(resizing.normalised(images), GREY.normalised(Resize(20, 22, "bicubic")(images)))
    assert (resizing.image_size, resizing.network_size) == (8, 20)
    assert resizing.to_plain()["resize"] == {"size": 20, "short_side": 22, "interpolation": "bicubic"}
    assert Preprocessing.from_plain(resizing.to_plain()) == resizing


def test_normalising_takes_mean_and_deviation() -> None:
    levels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    assert GREY.normalised(levels).flatten().tolist() == pytest.approx([-2.0, 2.0])


def test_it_comes_back_from_its_description() -> None:
    assert Preprocessing.from_plain(COLOUR.to_plain()) == COLOUR


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"no picture", "cannot identify image file"), (b"", "cannot identify image file"), (None, "No such file")],
)
def test_what_is_no_image_says_why(content: bytes | None, why: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(UnreadableImageError, match=why) as told:
        GREY.read(tmp_path / "x.png")
    assert str(told.value).startswith(f"{tmp_path / 'x.png'}: {why}")
    assert Options().why(told.value).startswith(why), "for a table, beside the file's name"


def test_a_truncated_file_is_no_image(tmp_path: Path) -> None:
    colourful(64, 64).save(tmp_path / "whole.jpg")
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-600])
    with pytest.raises(UnreadableImageError, match="truncated"):
        COLOUR.read(tmp_path / "half.jpg")


def test_a_strip_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    Image.new("L", (1, 60000)).save(tmp_path / "strip.png")
    large = Preprocessing(224, 256, 3, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(UnreadableImageError, match="1 x 60000 pixels are too long a strip"):
        large.read(tmp_path / "strip.png")
