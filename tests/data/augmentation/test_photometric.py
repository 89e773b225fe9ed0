"""Photometric operations against Pillow's own, to the grey level; what Pillow has not, image by image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation import photometric


def noise(channels: int, height: int, width: int, seed: int = 0, low: int = 0, high: int = 256) -> Tensor:
    """Four images of independent levels from ``low`` to ``high`` - 1."""
    count = 4 * channels * height * width
    levels = low + rng.integers(Key(seed), torch.arange(count), high - low)
    return levels.to(torch.uint8).view(4, channels, height, width)


IMAGES = {
    "colour": noise(3, 8, 9),
    "grey": noise(1, 8, 9),
    "narrow range": noise(3, 32, 32, 1, 90, 140),
    "few levels": noise(3, 32, 32, 2, 0, 3),
    "one level": noise(3, 5, 5, 3, 77, 78),
    "black and white": noise(1, 16, 16, 4, 0, 2) * 255,
    "two rows": noise(3, 2, 7, 5),
}


def pictures(images: Tensor) -> list[Image.Image]:
    """The same as Pillow has them."""
    arrays = [image.permute(1, 2, 0).numpy() for image in images]
    return [Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array) for array in arrays]


def tensors(results: list[Image.Image]) -> Tensor:
    arrays = [np.array(result) for result in results]
    return torch.stack(
        [torch.from_numpy(each[:, :, None] if each.ndim == 2 else each).permute(2, 0, 1) for each in arrays]
    )


Operation = Callable[[Image.Image], Image.Image]
Table = Callable[[Tensor, Tensor], Tensor]

TABLES: dict[str, tuple[Table, float, Operation]] = {
    "auto_contrast": (photometric.auto_contrast, 0, ImageOps.autocontrast),
    "equalise": (photometric.equalise, 0, ImageOps.equalize),
    "invert": (photometric.invert, 0, ImageOps.invert),
    **{
        f"posterise {bits}": (photometric.posterise, bits, lambda image, bits=bits: ImageOps.posterize(image, bits))
        for bits in (1, 4, 8)
    },
    **{
        f"solarise {at}": (photometric.solarise, at, lambda image, at=at: ImageOps.solarize(image, at))
        for at in (0, 100, 255, 256)
    },
}


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("name", TABLES)
def test_tables_of_levels_are_pillow_s(name: str, kind: str) -> None:
    table, argument, pillow = TABLES[name]
    images = IMAGES[kind]
    found = photometric.look_up(images, table(images, torch.full((4,), float(argument), dtype=torch.float64)))
    assert torch.equal(found, tensors([pillow(picture) for picture in pictures(images)]))


ENHANCERS: dict[str, tuple[Callable[[Tensor], Tensor], type]] = {
    "brightness": (photometric.black, ImageEnhance.Brightness),
    "contrast": (photometric.mean_luma, ImageEnhance.Contrast),
    "colour": (photometric.luma, ImageEnhance.Color),
    "sharpness": (photometric.smooth, ImageEnhance.Sharpness),
}


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("name", ENHANCERS)
def test_blends_are_pillow_s(name: str, kind: str) -> None:
    base, enhancer = ENHANCERS[name]
    images, factors = IMAGES[kind], (0.0, 0.37, 1.0, 1.9)
    bases = base(images).expand_as(images)
    found = photometric.blend(bases, images, torch.tensor(factors, dtype=torch.float64))
    expected = [enhancer(picture).enhance(factor) for picture, factor in zip(pictures(images), factors, strict=True)]
    assert torch.equal(found, tensors(expected))


def test_bases_are_pillow_s_plainer_versions() -> None:
    images = IMAGES["colour"]
    assert torch.equal(photometric.luma(images).to(torch.uint8), tensors([p.convert("L") for p in pictures(images)]))
    smooth = [picture.filter(ImageFilter.SMOOTH) for picture in pictures(images)]
    assert torch.equal(photometric.smooth(images).to(torch.uint8), tensors(smooth))


@pytest.mark.parametrize("amount", [0, 1, 110, 127])
def test_levels_below_128_are_raised(amount: int) -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    table = photometric.solarise_add(images, torch.tensor([float(amount)]))
    expected = [level + amount if level < 128 else level for level in range(256)]
    assert photometric.look_up(images, table).flatten().tolist() == expected


def test_no_bits_are_black() -> None:
    images = IMAGES["colour"]
    assert photometric.look_up(images, photometric.posterise(images, torch.zeros(4))).max() == 0


def test_each_image_of_a_batch_has_its_own_argument() -> None:
    images, thresholds = IMAGES["grey"], torch.tensor([0.0, 60.0, 200.0, 256.0])
    together = photometric.look_up(images, photometric.solarise(images, thresholds))
    for row in range(4):
        own = photometric.look_up(
            images[row : row + 1], photometric.solarise(images[row : row + 1], thresholds[row : row + 1])
        )
        assert torch.equal(together[row : row + 1], own)


def test_levels_are_clipped_and_cut() -> None:
    values = torch.tensor([-3.0, -0.1, 0.0, 0.99, 254.999, 255.0, 300.0])
    assert photometric.whole_levels(values).tolist() == [0, 0, 0, 0, 254, 255, 255]
