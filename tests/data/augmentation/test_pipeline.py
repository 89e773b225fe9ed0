"""Crop, flip, brightness and the whole pipeline: against loops, and as a pure function of image, key and position."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation import geometric, mixup, photometric
from cl_lightning.data.augmentation.operations import BASES, TABLES
from cl_lightning.data.augmentation.pipeline import Augmentation, RandAugment, augment, normalise

EVERYTHING = Augmentation(
    crop_padding=2, flip=True, brightness=63 / 255, rotation=10, randaugment=RandAugment(num_ops=3)
)
KEY = Key(5).fold("augment", 0)


def random_images(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def windows(image: Tensor, padding: int) -> dict[tuple[int, int, bool], Tensor]:
    """All crops of a zero-padded image (C, H, W), mirrored and not."""
    channels, height, width = image.shape
    padded = torch.zeros(channels, height + 2 * padding, width + 2 * padding, dtype=torch.uint8)
    padded[:, padding : padding + height, padding : padding + width] = image
    found = {}
    for top, left in itertools.product(range(2 * padding + 1), repeat=2):
        crop = padded[:, top : top + height, left : left + width]
        found[top, left, False], found[top, left, True] = crop, crop.flip(2)
    return found


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 6, 9), (4, 5, 5)])
def test_crops_and_flips_are_windows_drawn_fairly(shape: tuple[int, int, int]) -> None:
    image = random_images(*shape)
    names = {window.numpy().tobytes(): name for name, window in windows(image, 1).items()}
    assert len(names) == 18
    images = image.expand(9000, -1, -1, -1)
    changed = augment(images, Augmentation(crop_padding=1, flip=True), KEY, torch.arange(9000))
    drawn = [names[window.numpy().tobytes()] for window in changed]  # a KeyError would be something that is no window
    counts = [drawn.count(name) for name in names.values()]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_crop_alone_and_flip_alone() -> None:
    images = random_images(400, 3, 8, 8)
    positions = torch.arange(400)
    flipped = augment(images, Augmentation(flip=True), KEY, positions)
    mirrored = torch.tensor([torch.equal(new, old.flip(2)) for new, old in zip(flipped, images, strict=True)])
    assert 150 < mirrored.sum() < 250
    assert torch.equal(flipped[~mirrored], images[~mirrored])
    cropped = augment(images, Augmentation(crop_padding=4), KEY, positions)
    both = augment(images, Augmentation(crop_padding=4, flip=True), KEY, positions)
    assert torch.equal(torch.where(mirrored[:, None, None, None], cropped.flip(3), cropped), both)


def test_brightness_equals_pillows_for_a_uniform_factor() -> None:
    """Torchvision's ``ColorJitter(brightness=b)`` on a Pillow image: the factor is recovered from a bright pixel."""
    count, strength = 4000, 63 / 255
    images = random_images(count, 3, 4, 4)
    images[:, 0, 0, 0] = 200
    changed = augment(images, Augmentation(brightness=strength), KEY, torch.arange(count))
    reached = changed[:, 0, 0, 0].double()
    factors = reached / 200
    assert stats.kstest(factors.numpy() + 0.0025, stats.uniform(1 - strength, 2 * strength).cdf).pvalue > 1e-3
    for low, row, original in zip(factors, changed, images, strict=True):
        wide = original.double()
        assert (row >= (wide * low).clamp(max=255).floor()).all()
        assert (row <= (wide * (low + 1 / 200)).clamp(max=255).ceil()).all()


def test_rotation_turns_by_angles_drawn_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    images, angles = random_images(2000, 3, 6, 6), []
    turn = geometric.rotate

    def rotate(given: Tensor, degrees: Tensor, fill: Tensor) -> Tensor:
        assert not fill.any(), "corners are black"
        angles.append(degrees)
        return turn(given, degrees, fill)

    monkeypatch.setattr(geometric, "rotate", rotate)
    changed = augment(images, Augmentation(rotation=10), KEY, torch.arange(2000))
    drawn = torch.cat(angles)
    assert stats.kstest(drawn.numpy(), stats.uniform(-10, 20).cdf).pvalue > 1e-3
    assert torch.equal(changed, turn(images, drawn, torch.zeros(3, 1, 1, dtype=torch.uint8)))


def test_the_order_is_crop_flip_brightness_rotation_randaugment() -> None:
    images, positions = random_images(200, 3, 10, 10), torch.arange(200)
    policy = RandAugment()
    stages = (
        Augmentation(2, flip=True),
        Augmentation(brightness=0.5),
        Augmentation(rotation=10),
        Augmentation(randaugment=policy),
    )
    expected = images
    for stage in stages:
        expected = augment(expected, stage, KEY, positions)
    everything = Augmentation(2, flip=True, brightness=0.5, rotation=10, randaugment=policy)
    got = augment(images, everything, KEY, positions)
    assert torch.equal(got, expected)


def test_nothing_to_do_copies() -> None:
    images = random_images(2, 3, 4, 4)
    same = augment(images, Augmentation(), KEY, torch.arange(2))
    assert torch.equal(same, images)
    assert same.data_ptr() != images.data_ptr()


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 32, 32), (1, 8, 8), (3, 9, 14), (3, 224, 224)])
def test_an_image_does_not_care_for_its_batch(shape: tuple[int, int, int]) -> None:
    count = 96 if shape[1] < 100 else 12
    images, positions = random_images(count, *shape), torch.arange(count) * 7
    before = images.clone()
    together = augment(images, EVERYTHING, KEY, positions)
    assert together.dtype == torch.uint8
    assert together.shape == images.shape
    assert torch.equal(images, before)
    assert torch.equal(augment(images, EVERYTHING, KEY, positions), together)
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(1))
    assert torch.equal(augment(images[shuffled], EVERYTHING, KEY, positions[shuffled]), together[shuffled])
    some = shuffled[: count // 3]
    assert torch.equal(augment(images[some], EVERYTHING, KEY, positions[some]), together[some])
    for i in (0, count - 1):
        assert torch.equal(augment(images[i : i + 1], EVERYTHING, KEY, positions[i : i + 1])[0], together[i])


def test_large_batches_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    images, positions = random_images(50, 3, 8, 8), torch.arange(50)
    together = augment(images, EVERYTHING, KEY, positions)
    for levels in (1, 7 * 3 * 64):
        monkeypatch.setattr("cl_lightning.data.augmentation.pipeline.LEVELS_AT_A_TIME", levels)
        assert torch.equal(augment(images, EVERYTHING, KEY, positions), together)
    assert augment(images[:0], EVERYTHING, KEY, positions[:0]).shape == (0, 3, 8, 8)


@pytest.mark.slow
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=12), st.integers(0, 2**64 - 1))
def test_any_positions_and_keys(positions: list[int], key: int) -> None:
    images = random_images(1, 3, 8, 8).expand(len(positions), -1, -1, -1)
    together = augment(images, EVERYTHING, Key(key), torch.tensor(positions))
    alone = augment(images[:1], EVERYTHING, Key(key), torch.tensor(positions[-1:]))
    assert torch.equal(together[-1:], alone)


def test_positions_and_keys_give_different_images() -> None:
    images = random_images(1, 3, 16, 16).expand(300, -1, -1, -1)
    changed = augment(images, EVERYTHING, KEY, torch.arange(300))
    assert len({image.numpy().tobytes() for image in changed}) > 290
    again = augment(images, EVERYTHING, Key(5).fold("augment", 1), torch.arange(300))
    assert (changed != again).flatten(1).any(1).float().mean() > 0.95


def test_half_of_the_images_of_each_round_are_changed() -> None:
    """Both rounds leave a quarter of the images alone; a few operations (a strong colour on grey) change nothing."""
    images = random_images(4000, 3, 8, 8)
    changed = augment(images, Augmentation(randaugment=RandAugment()), KEY, torch.arange(4000))
    alone = (changed == images).flatten(1).all(1).float().mean().item()
    assert alone == pytest.approx(0.25, abs=0.06)


def test_the_result_can_be_trained_on() -> None:
    """It is made in inference mode, whose tensors autograd refuses to keep."""
    images = augment(random_images(2, 3, 8, 8), EVERYTHING, KEY, torch.arange(2))
    images += 0
    weight = torch.ones(1, 3, 3, 3, requires_grad=True)
    torch.nn.functional.conv2d(normalise(images, (0.5,) * 3, (0.25,) * 3), weight).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("channels", [1, 3])
def test_normalise(channels: int) -> None:
    mean, std = (0.5071, 0.4867, 0.4408)[:channels], (0.2675, 0.2565, 0.2761)[:channels]
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, channels, 1, 1)
    got = normalise(images, mean, std)
    assert got.dtype == torch.float32
    for channel in range(channels):
        expected = (images[:, channel].double() / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(got[:, channel].double(), expected, rtol=0, atol=5e-7)


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.25,)), ((0.5,) * 3, (0.25,) * 2), ((0.5,) * 3, (0.2, 0.0, 0.2))])
def test_wrong_constants_are_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be 3 numbers each, std above 0: pass mean=\[0.5,0.5,0.5\]"):
        normalise(random_images(1, 3, 2, 2), mean, std)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop_padding": -1}, "crop_padding=-1 must be .*: pass crop_padding=4"),
        ({"crop_padding": 1.5}, "crop_padding=1.5 must be"),
        ({"brightness": -0.1}, r"brightness=-0.1 is not in \[0, 1\]"),
        ({"brightness": 1.5}, r"brightness=1.5 is not in \[0, 1\]"),
        ({"brightness": float("nan")}, "brightness=nan is not"),
        ({"rotation": -1.0}, r"rotation=-1.0 is no angle in \[0, 180\]: pass rotation=10"),
    ],
)
def test_wrong_augmentations_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Augmentation(**options)
    assert "\n" not in str(caught.value)


def test_wrong_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes uint8 images, not torch.float32"):
        augment(torch.rand(1, 3, 4, 4), Augmentation(), KEY, torch.arange(1))
    with pytest.raises(ValueError, match="not 2 channels: pass augmentation=basic"):
        augment(random_images(1, 2, 4, 4), Augmentation(randaugment=RandAugment()), KEY, torch.arange(1))
    with pytest.raises(AssertionError, match="one position an image"):
        augment(random_images(2, 3, 4, 4), Augmentation(), KEY, torch.arange(1))


def test_nothing_on_the_accelerator_meets_the_host() -> None:
    """Shapes and devices alone, on an accelerator that need not exist: a tensor left on the CPU would raise."""
    try:
        with FakeTensorMode():
            images = torch.empty(4, 3, 8, 8, dtype=torch.uint8, device="cuda")
            arguments = torch.empty(4, dtype=torch.float64, device="cuda")
            fill = torch.empty(3, 1, 1, dtype=torch.uint8, device="cuda")
            shifts = geometric.shear_shifts(arguments, 8, 8) + geometric.translation_shifts(arguments, 8, 8)
            results = [geometric.rotate(images, arguments, fill), geometric.slide_rows(images, shifts, fill)]
            results += [photometric.look_up(images, table(images, arguments)) for table in TABLES.values()]
            results += [photometric.blend(base(images), images, arguments) for base in BASES.values()]
            positions = torch.empty(4, dtype=torch.int64, device="cuda")
            results.append(augment(images, Augmentation(2, flip=True, brightness=0.5, rotation=10), KEY, positions))
            results.append(normalise(images, (0.5,) * 3, (0.25,) * 3))
            targets = mixup.one_hot(positions, 5)
            results += [targets, *mixup.mixup(results[-1], targets, [0.5, 0.2])]
            assert {result.device.type for result in results} == {"cuda"}
    finally:
        photometric.fixed_tables.cache_clear()  # it has kept tables without contents


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 32, 32), (1, 32, 32), (3, 224, 224)])
def test_devices_agree(shape: tuple[int, int, int]) -> None:
    images, positions = random_images(128, *shape), torch.arange(128)
    here = augment(images, EVERYTHING, KEY, positions)
    for where in (positions, positions.cuda()):
        there = augment(images.cuda(), EVERYTHING, KEY, where).cpu()
        assert (here.int() - there.int()).abs().float().mean() < 1e-3
