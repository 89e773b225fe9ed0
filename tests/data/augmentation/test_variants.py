"""End-to-End's variants: against a loop, as recorded, drawn fairly, shared by the copies of an image, once a phase."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation.pipeline import Augmentation, PerDataset, augment, augment_per_dataset
from cl_lightning.data.augmentation.variants import Variants, apply, draw, levels
from cl_lightning.data.loading import Pipeline
from tests.golden import GOLDEN

KEY = Key(3).fold("augment", 0)
PADDING = 4
TWELVE = Augmentation(crop_padding=PADDING, flip=True, variants=True)
Array = np.ndarray


def images_of(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def twelve(image: Array, shift: float, factor: float, tops: list[int], lefts: list[int], padding: int) -> list[Array]:
    """The variants of an image (C, H, W) as their authors make them, one after the other."""
    height, width = image.shape[1:]
    contrasted = np.empty_like(image)
    for channel, level in enumerate(image):
        contrasted[channel] = (level - level.mean()) * factor + level.mean()
    changed = [image, np.clip(image + shift, 0, 255), np.clip(contrasted, 0, 255)]
    crops = []
    for each, top, left in zip(changed, tops, lefts, strict=True):
        padded = np.pad(each, ((0, 0), (padding, padding), (padding, padding)))
        crops.append(padded[:, top : top + height, left : left + width])
    return [*changed, *crops, *(each[:, :, ::-1] for each in (*changed, *crops))]


def of_row(row: int, copies: int = 12, *, flip: bool = True) -> Variants:
    """The variants of all copies of a row."""
    return draw(KEY, row * copies + torch.arange(copies), copies, padding=PADDING, flip=flip)


@pytest.mark.parametrize("shape", [(3, 6, 7), (1, 8, 8)])
def test_the_twelve_by_hand(shape: tuple[int, int, int]) -> None:
    for row, image in enumerate(images_of(10, *shape).double()):
        drawn = of_row(row)
        assert drawn.kinds.tolist() == list(range(12))
        shared = drawn.shifts[0].item(), drawn.factors[0].item(), drawn.tops[:3].tolist(), drawn.lefts[:3].tolist()
        expected = torch.from_numpy(np.stack(twelve(image.numpy(), *shared, PADDING)))
        found = levels(image.expand(12, *shape), drawn, PADDING)
        torch.testing.assert_close(found, expected, atol=1e-9, rtol=0)
        rounded = apply(image.to(torch.uint8).expand(12, *shape), drawn, PADDING)
        assert (rounded.double() - expected).abs().max() <= 0.5 + 1e-4
        assert torch.equal(rounded[0], image.to(torch.uint8)), "the first is the image"


def test_the_twelve_as_recorded() -> None:
    with np.load(GOLDEN / "e2e.npz", allow_pickle=False) as file:
        image, theirs = (torch.from_numpy(file[f"augment/{name}"]) for name in ("image", "official_derived_variants"))
        shift, factor = (torch.from_numpy(file[f"augment/{name}"]).expand(12) for name in ("brightness", "contrast"))
        # Offsets count from 1.
        tops, lefts = (torch.from_numpy(file[f"augment/{side}_offsets"]).repeat(4) - 1 for side in ("row", "column"))
    drawn = Variants(torch.arange(12), shift, factor, tops, lefts)
    torch.testing.assert_close(levels(image.expand(12, -1, -1, -1), drawn, PADDING), theirs, atol=1e-9, rtol=0)


def test_the_copies_of_an_image_share_their_draws_and_images_do_not() -> None:
    rows = [of_row(row) for row in range(50)]
    for drawn in rows:
        assert len(drawn.shifts.unique()) == len(drawn.factors.unique()) == 1
        for offsets in (drawn.tops, drawn.lefts):
            assert torch.equal(offsets, offsets[:3].repeat(4)), "one crop of each of the three"
    assert len({drawn.shifts[0].item() for drawn in rows}) == 50
    assert len({tuple(drawn.tops[:3].tolist()) for drawn in rows}) > 40


def test_draws_are_uniform() -> None:
    drawn = draw(KEY, 12 * torch.arange(20_000), 12, padding=PADDING, flip=True)
    assert stats.kstest(drawn.shifts.numpy(), "uniform", (-63, 126)).pvalue > 1e-3
    assert stats.kstest(drawn.factors.numpy(), "uniform", (0.2, 1.6)).pvalue > 1e-3
    for offsets in (drawn.tops, drawn.lefts):
        counts = torch.bincount(offsets)
        assert len(counts) == 8, "the last of the nine places is left out, as by the authors"
        assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_what_must_not_be_mirrored_has_the_other_six_twice_with_two_draws() -> None:
    drawn = of_row(5, flip=False)
    assert drawn.kinds.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert len(drawn.shifts.unique()) == 2


def test_with_other_copies_each_is_any_of_the_twelve() -> None:
    for copies in (1, 2):
        drawn = draw(KEY, torch.arange(24_000), copies, padding=PADDING, flip=True)
        assert stats.chisquare(torch.bincount(drawn.kinds, minlength=12).numpy()).pvalue > 1e-3
        assert len(drawn.shifts.unique()) > 20_000
    assert int(draw(KEY, torch.arange(500), 1, padding=PADDING, flip=False).kinds.max()) == 5


def test_without_padding_there_is_no_crop() -> None:
    image = images_of(3, 8, 8).expand(12, -1, -1, -1)
    found = apply(image, draw(KEY, torch.arange(12), 12, padding=0, flip=True), 0)
    assert torch.equal(found[3:6], found[:3])


def test_an_epoch_of_twelve_copies_is_the_twelve_variants_whatever_the_batches() -> None:
    images = images_of(4, 3, 8, 8)
    rows, copies = torch.arange(4).repeat_interleave(12), torch.arange(12).repeat(4)
    order = torch.randperm(48, generator=torch.Generator().manual_seed(1))
    whole = augment(images[rows], TWELVE, KEY, rows * 12 + copies, 12)
    for part in order.split(7):
        alone = augment(images[rows[part]], TWELVE, KEY, (rows * 12 + copies)[part], 12)
        assert torch.equal(alone, whole[part])
    for row in range(4):
        drawn = draw(KEY.fold("variants"), row * 12 + torch.arange(12), 12, padding=PADDING, flip=True)
        assert torch.equal(whole[12 * row : 12 * row + 12], apply(images[row].expand(12, -1, -1, -1), drawn, PADDING))
    sets = PerDataset((TWELVE, None), torch.tensor([0, 1]))
    mixed = augment_per_dataset(images[rows], sets, KEY, rows * 12 + copies, rows % 2, 12)
    assert torch.equal(mixed[rows % 2 == 0], whole[rows % 2 == 0])
    assert torch.equal(mixed[rows % 2 == 1], images[rows[rows % 2 == 1]])


def test_fixed_variants_are_those_of_the_first_epoch_in_every_other() -> None:
    images, addresses = images_of(12, 3, 8, 8), torch.arange(12) * 12 + 1
    fresh = Pipeline(8, (0.5,) * 3, (0.2,) * 3, TWELVE, KEY, copies=12)
    fixed = replace(fresh, fixed=True)
    first = fresh.on_device(images, addresses, 0)
    assert torch.equal(fixed.on_device(images, addresses, 0), first)
    assert torch.equal(fixed.on_device(images, addresses, 5), first)
    assert not torch.equal(fresh.on_device(images, addresses, 5), first)
    assert not torch.equal(replace(fixed, key=Key(4)).on_device(images, addresses, 5), first), "another phase's"
