"""Batches are resized as Pillow resizes images: not a level differs, whatever the sizes, the batch and the device."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.data.augmentation import resizing
from cl_lightning.data.augmentation.resizing import Resize
from cl_lightning.data.sources.decoding import centre, resized, to_tensor

FILTERS = ("bicubic", "bilinear")
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")),
]


def noise(count: int, channels: int, side: int) -> Tensor:
    """Levels at random, and half of the images black and white alone: the filter overshoots most there."""
    levels = rng.integers(rng.Key(3), torch.arange(count * channels * side**2), 256).view(count, channels, side, side)
    levels[::2] = (levels[::2] > 127) * 255
    return levels.to(torch.uint8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("side", [1, 2, 7, 8, 31, 32, 64])
def test_not_a_level_differs_from_pillow(side: int, interpolation: str, device: str) -> None:
    images = noise(3, 3, side)
    for size in (1, 3, 8, 15, 16, 32, 33, 36, 56, 64, 96, 224, 255):
        found = Resize(size, size, interpolation)(images.to(device)).cpu()
        assert torch.equal(found, torch.stack([resized(image, size, interpolation) for image in images])), size


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize(("size", "short"), [(224, 256), (224, 248), (14, 16), (14, 17), (5, 32), (32, 36)])
def test_the_centre_is_what_is_cut_from_a_file(size: int, short: int, interpolation: str) -> None:
    images = noise(4, 3, 20)
    found = Resize(size, short, interpolation)(images)
    for image, mine in zip(images, found, strict=True):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        assert torch.equal(mine, to_tensor(centre(picture, size, short, interpolation)))


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_the_same_in_any_batch(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images, resize = noise(9, channels, 8), Resize(20, 22, "bicubic")
    together = resize(images)
    assert together.shape == (9, channels, 20, 20)
    assert torch.equal(together, torch.cat([resize(image[None]) for image in images]))
    monkeypatch.setitem(resizing.LEVELS_TOGETHER, "cpu", 1)
    assert torch.equal(together, resize(images)), "one at a time"


@pytest.mark.parametrize("short", [8, 9])
def test_images_of_the_network_s_size_keep_their_pixels(short: int) -> None:
    images = noise(2, 3, 8)
    assert Resize(8, short, "bicubic")(images) is images


def test_no_images_are_no_images_of_the_new_size() -> None:
    assert Resize(16, 16, "bicubic")(torch.empty(0, 3, 8, 8, dtype=torch.uint8)).shape == (0, 3, 16, 16)


def test_levels_stay_where_images_are_flat() -> None:
    flat = torch.tensor([0, 1, 127, 254, 255], dtype=torch.uint8).view(5, 1, 1, 1).expand(5, 1, 8, 8)
    for interpolation in FILTERS:
        found = Resize(29, 31, interpolation)(flat)
        assert torch.equal(found, flat[:, :, :1, :1].expand(5, 1, 29, 29))


def test_torch_s_own_resizing_is_further_away() -> None:
    """Why it is not used: it neither rounds nor clips after the first direction."""
    images = noise(4, 3, 32)
    exact = np.stack([resized(image, 224).numpy() for image in images]).astype(int)
    torchs = torch.nn.functional.interpolate(images.float(), (224, 224), mode="bicubic", antialias=True)
    difference = np.abs(torchs.round().clamp(0, 255).numpy().astype(int) - exact).max()
    assert difference > 1
