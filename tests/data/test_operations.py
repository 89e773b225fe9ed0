"""Every operation of RandAugment against timm's on Pillow images, which is what the published recipe used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cl_lightning.data import operations
from cl_lightning.data.operations import Operation

FILL = (124, 116, 104)
GREY_FILL = (19595 * 124 + 38470 * 116 + 7471 * 104 + 0x8000) >> 16
TIMM_NAMES = {
    Operation.AUTO_CONTRAST: "AutoContrast",
    Operation.EQUALISE: "Equalize",
    Operation.INVERT: "Invert",
    Operation.POSTERISE: "PosterizeIncreasing",
    Operation.SOLARISE: "SolarizeIncreasing",
    Operation.SOLARISE_ADD: "SolarizeAdd",
    Operation.BRIGHTNESS: "BrightnessIncreasing",
    Operation.CONTRAST: "ContrastIncreasing",
    Operation.COLOUR: "ColorIncreasing",
    Operation.SHARPNESS: "SharpnessIncreasing",
    Operation.SHEAR_X: "ShearX",
    Operation.TRANSLATE_X: "TranslateXRel",
    Operation.SHEAR_Y: "ShearY",
    Operation.TRANSLATE_Y: "TranslateYRel",
    Operation.ROTATE: "Rotate",
}
GEOMETRIC = [operation for operation in Operation if operation >= Operation.SHEAR_X]
PHOTOMETRIC = [operation for operation in Operation if operation < Operation.SHEAR_X]
Photographs = dict[tuple[int, int], np.ndarray]
SIZES = [(8, 8), (32, 32), (24, 40), (224, 224)]


@pytest.fixture(scope="module")
def photographs() -> Photographs:
    """Crops (n, H, W, 3) of scikit-learn's two photographs, small ones shrunk from larger ones."""
    from sklearn.datasets import load_sample_images

    generator = np.random.default_rng(0)
    crops = {}
    for height, width in SIZES:
        zoom = 1 if height > 100 else 5
        crops[height, width] = np.stack(
            [_crop(photo, height, width, zoom, generator) for photo in load_sample_images().images]
        )
    return crops


def _crop(photo: np.ndarray, height: int, width: int, zoom: int, generator: np.random.Generator) -> np.ndarray:
    top = generator.integers(0, photo.shape[0] - height * zoom + 1)
    left = generator.integers(0, photo.shape[1] - width * zoom + 1)
    crop = Image.fromarray(photo[top : top + height * zoom, left : left + width * zoom])
    return np.asarray(crop.resize((width, height), Image.Resampling.BICUBIC))


def pillow(operation: Operation, image: np.ndarray, arguments: tuple[float, ...]) -> np.ndarray:
    """Timm's operation on one image (H, W, 3) or (H, W)."""
    from timm.data.auto_augment import NAME_TO_OP

    fill = FILL if image.ndim == 3 else GREY_FILL
    function = NAME_TO_OP[TIMM_NAMES[operation]]
    return np.asarray(function(Image.fromarray(image), *arguments, fillcolor=fill, resample=Image.Resampling.BICUBIC))


def ours(operation: Operation, images: np.ndarray, arguments: tuple[float, ...]) -> np.ndarray:
    """Our operation on images (n, H, W, 3) or (n, H, W), all with the same argument."""
    tensor = torch.from_numpy(images.copy())
    tensor = tensor.permute(0, 3, 1, 2).contiguous() if images.ndim == 4 else tensor[:, None]
    which = torch.full((len(images),), int(operation))
    numbers = torch.full((len(images),), float(arguments[0]) if arguments else 0.0, dtype=torch.float64)
    result = operations.apply(tensor, which, numbers, FILL)
    assert result.dtype == torch.uint8
    return (result.permute(0, 2, 3, 1) if images.ndim == 4 else result[:, 0]).numpy()


def strengths(operation: Operation, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, ...]]:
    """Timm's arguments for weak, usual and extreme magnitudes, of both signs."""
    from timm.data import auto_augment

    level = auto_augment.LEVEL_TO_ARG[TIMM_NAMES[operation]]
    if level is None:
        return [()]
    found = []
    for sign in (-1, 1):
        monkeypatch.setattr(auto_augment, "_randomly_negate", lambda value, sign=sign: sign * value)
        found += [level(magnitude, {}) for magnitude in (0.0, 2.5, 7.77, 9.0, 9.4, 10.0)]
    return [arguments for arguments in sorted(set(found)) if (operation, *arguments) != (Operation.POSTERISE, 0)]


def grey(images: np.ndarray) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])


def differences(operation: Operation, images: np.ndarray, arguments: tuple[float, ...]) -> np.ndarray:
    expected = np.stack([pillow(operation, image, arguments) for image in images])
    return np.abs(ours(operation, images, arguments).astype(int) - expected)


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("operation", PHOTOMETRIC, ids=lambda operation: operation.name.lower())
def test_photometric_operations_equal_timm(
    operation: Operation, channels: int, photographs: Photographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in strengths(operation, monkeypatch):
        for images in photographs.values():
            images = images if channels == 3 else grey(images)
            assert differences(operation, images, arguments).max() == 0, (arguments, images.shape)


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("operation", GEOMETRIC, ids=lambda operation: operation.name.lower())
def test_geometric_operations_equal_timm(
    operation: Operation, channels: int, photographs: Photographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow interpolates in double precision and cuts: single precision may lose a level where the result is whole."""
    found = []
    for arguments in strengths(operation, monkeypatch):
        for images in photographs.values():
            images = images if channels == 3 else grey(images)
            found.append(differences(operation, images, arguments).ravel())
    found = np.concatenate(found)
    assert found.max() <= 1
    assert found.mean() < 1e-3


@pytest.mark.parametrize("operation", PHOTOMETRIC, ids=lambda operation: operation.name.lower())
@pytest.mark.parametrize("levels", [1, 2, 3, 256])
def test_odd_images_equal_timm(operation: Operation, levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few levels (nothing to stretch or to flatten), and images too small for a neighbourhood."""
    generator = np.random.default_rng(levels)
    for height, width in ((1, 1), (2, 5), (3, 3), (16, 17)):
        palette = generator.choice(256, levels, replace=False).astype(np.uint8)
        if levels == 3:
            palette = np.array([40, 40, 41], np.uint8)  # neighbours
        images = palette[generator.integers(0, levels, (3, height, width, 3))]
        for arguments in strengths(operation, monkeypatch):
            assert differences(operation, images, arguments).max() == 0, (arguments, images.shape)


def test_posterising_to_no_bits_is_black(photographs: Photographs) -> None:
    """The highest magnitude asks for it; Pillow refuses now, and once gave a black image."""
    assert ours(Operation.POSTERISE, photographs[8, 8], (0,)).max() == 0


def test_colour_leaves_grey_images_alone(photographs: Photographs) -> None:
    images = grey(photographs[8, 8])
    assert np.array_equal(ours(Operation.COLOUR, images, (1.9,)), images)


def test_fill_is_a_colour_for_colour_images_and_its_luma_for_grey_ones(photographs: Photographs) -> None:
    images = photographs[8, 8]
    assert GREY_FILL == 117
    assert ours(Operation.TRANSLATE_X, images, (0.45,))[0, 0, -1].tolist() == list(FILL)
    assert ours(Operation.TRANSLATE_Y, grey(images), (-0.45,))[0, 0, 0] == GREY_FILL


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
