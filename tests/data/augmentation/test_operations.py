"""Every operation of RandAugment against timm's on Pillow images, which is what the published recipe used."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cl_lightning.data.augmentation import operations
from cl_lightning.data.augmentation.operations import Operation
from scripts.check_augmentation import (
    FILL,
    GEOMETRIC,
    GREY_FILL,
    PHOTOMETRIC,
    crop_photo,
    differences,
    grey,
    is_black,
    our_result,
    timm_arguments,
)

Photographs = dict[tuple[int, int], np.ndarray]
SIZES = [(8, 8), (32, 32), (24, 40), (224, 224)]


@pytest.fixture(scope="module")
def photographs() -> Photographs:
    """Crops (n, H, W, 3) of scikit-learn's two photographs, small ones shrunk from larger ones."""
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    photos = load_sample_images().images
    return {size: np.stack([crop_photo(photo, *size, generator) for photo in photos]) for size in SIZES}


def strengths(operation: Operation) -> list[float]:
    """Timm's arguments for weak, usual and extreme magnitudes, of both signs."""
    magnitudes = 0.0, 2.5, 7.77, 9.0, 9.4, 10.0
    found = {argument for magnitude in magnitudes for argument in timm_arguments(operation, magnitude)}
    return [argument for argument in sorted(found) if not is_black(operation, argument)]


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("operation", PHOTOMETRIC, ids=lambda operation: operation.name.lower())
def test_photometric_operations_equal_timm(operation: Operation, channels: int, photographs: Photographs) -> None:
    for argument in strengths(operation):
        for images in photographs.values():
            images = images if channels == 3 else grey(images)
            assert differences(operation, images, argument).max() == 0, (argument, images.shape)


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("operation", GEOMETRIC, ids=lambda operation: operation.name.lower())
def test_geometric_operations_equal_timm(operation: Operation, channels: int, photographs: Photographs) -> None:
    """Pillow interpolates in double precision and cuts: single precision may lose a level where the result is whole."""
    found = []
    for argument in strengths(operation):
        for images in photographs.values():
            images = images if channels == 3 else grey(images)
            found.append(differences(operation, images, argument).ravel())
    found = np.concatenate(found)
    assert found.max() <= 1
    assert found.mean() < 1e-3


@pytest.mark.parametrize("operation", PHOTOMETRIC, ids=lambda operation: operation.name.lower())
@pytest.mark.parametrize("levels", [1, 2, 3, 256])
def test_odd_images_equal_timm(operation: Operation, levels: int) -> None:
    """Few levels (nothing to stretch or to flatten), and images too small for a neighbourhood."""
    generator = np.random.default_rng(levels)
    for height, width in ((1, 1), (2, 5), (3, 3), (16, 17)):
        palette = generator.choice(256, levels, replace=False).astype(np.uint8)
        if levels == 3:
            palette = np.array([40, 40, 41], np.uint8)  # neighbours
        images = palette[generator.integers(0, levels, (3, height, width, 3))]
        for argument in strengths(operation):
            assert differences(operation, images, argument).max() == 0, (argument, images.shape)


def test_posterising_to_no_bits_is_black(photographs: Photographs) -> None:
    """The highest magnitude asks for it; Pillow refuses now, and once gave a black image."""
    assert our_result(Operation.POSTERISE, photographs[8, 8], 0).max() == 0


def test_colour_leaves_grey_images_alone(photographs: Photographs) -> None:
    images = grey(photographs[8, 8])
    assert np.array_equal(our_result(Operation.COLOUR, images, 1.9), images)


def test_fill_is_a_colour_for_colour_images_and_its_luma_for_grey_ones(photographs: Photographs) -> None:
    images = photographs[8, 8]
    assert GREY_FILL == 117
    assert our_result(Operation.TRANSLATE_X, images, 0.45)[0, 0, -1].tolist() == list(FILL)
    assert our_result(Operation.TRANSLATE_Y, grey(images), -0.45)[0, 0, 0] == GREY_FILL


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 16, 16), (3, 12, 20)])
def test_a_mixed_batch_gives_each_image_what_it_gets_alone(shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    which = torch.randint(-1, len(Operation), (64,), generator=generator)
    arguments = torch.rand(64, generator=generator, dtype=torch.float64)
    arguments[which == Operation.INVERT] = 0
    for whole in (Operation.POSTERISE, Operation.SOLARISE, Operation.SOLARISE_ADD):
        arguments[which == whole] = 3
    images = torch.randint(0, 256, (64, *shape), generator=generator, dtype=torch.uint8)
    before = images.clone()
    together = operations.apply(images, which, arguments, FILL)
    alone = [operations.apply(images[i : i + 1], which[i : i + 1], arguments[i : i + 1], FILL) for i in range(64)]
    assert torch.equal(together, torch.cat(alone))
    assert torch.equal(images, before)
    assert torch.equal(together[which < 0], images[which < 0])
    assert set(which.tolist()) == {-1, *Operation}  # every operation took part


def test_a_batch_without_operations_and_an_empty_one() -> None:
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    none = torch.full((3,), -1)
    assert torch.equal(operations.apply(images, none, torch.zeros(3).double(), FILL), images)
    assert operations.apply(images[:0], none[:0], torch.zeros(0).double(), FILL).shape == (0, 3, 8, 8)
