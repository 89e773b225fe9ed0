"""Cutout: against a loop and published holes, drawn fairly, and as a function of key and position alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation.cutout import black_out, draw
from cl_lightning.data.augmentation.pipeline import Augmentation, PerDataset, RandAugment, augment, augment_per_dataset
from tests.golden import GOLDEN

KEY = Key(5).fold("augment", 0)


def images_of(*shape: int) -> Tensor:
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))  # none black


@pytest.mark.parametrize(("size", "shape"), [(16, (3, 32, 32)), (3, (1, 8, 8)), (1, (3, 5, 9)), (8, (1, 8, 8))])
def test_a_square_about_the_centre_is_black_and_nothing_else_changes(size: int, shape: tuple[int, int, int]) -> None:
    images, (height, width) = images_of(60, *shape), shape[1:]
    centres = draw(KEY, torch.arange(60), height, width)
    for image, old, y, x in zip(black_out(images, centres, size), images, *centres.tolist(), strict=True):
        expected = old.clone()
        top, left = y - size // 2, x - size // 2
        expected[:, max(top, 0) : top + size, max(left, 0) : left + size] = 0
        assert torch.equal(image, expected)


def test_holes_of_the_published_centres() -> None:
    with np.load(GOLDEN / "dkt_recipe.npz") as file:
        centres, kept = (torch.from_numpy(file[f"cutout/{name}"]) for name in ("centre_yx", "kept"))
    white = torch.full((24, 3, 32, 32), 255, dtype=torch.uint8)
    assert torch.equal(black_out(white, centres.T, 16), white * kept[:, None])
    hidden = (1 - kept.long()).sum(dim=(1, 2))
    assert hidden.min() >= 64
    assert hidden.max() == 256


def test_centres_are_uniform_over_rows_and_columns_apart() -> None:
    rows, columns = draw(KEY, torch.arange(20_000), 4, 6)
    counts = torch.bincount(rows * 6 + columns, minlength=24)
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_it_comes_last_and_leaves_the_draws_of_the_others_alone() -> None:
    images, positions = images_of(50, 3, 12, 12), torch.arange(50) * 3
    others = {"crop_padding": 2, "flip": True, "brightness": 0.4, "randaugment": RandAugment()}
    before = augment(images, Augmentation(**others), KEY, positions)  # type: ignore[arg-type]
    both = augment(images, Augmentation(**others, cutout=4), KEY, positions)  # type: ignore[arg-type]
    assert torch.equal(both, augment(before, Augmentation(cutout=4), KEY, positions))
    assert (both != before).flatten(1).any(1).float().mean() > 0.8


def test_the_hole_of_a_position_is_the_same_whatever_the_batch_and_the_process() -> None:
    images, positions, cut = images_of(40, 3, 16, 16), torch.arange(40) + 7, Augmentation(cutout=6)
    together = augment(images, cut, KEY, positions)
    for world in (1, 2, 4):
        for rank in range(world):
            mine = slice(rank, None, world)
            assert torch.equal(augment(images[mine], cut, KEY, positions[mine]), together[mine])
    assert not torch.equal(augment(images, cut, Key(5).fold("augment", 1), positions), together), "of another epoch"


def test_one_of_several_sets_may_have_it() -> None:
    images, labels = images_of(20, 1, 8, 8), torch.arange(20) % 2
    by_set = PerDataset((Augmentation(), Augmentation(cutout=4)), torch.tensor([0, 1]))
    changed = augment_per_dataset(images, by_set, KEY, torch.arange(20), labels)
    assert torch.equal(changed[::2], images[::2])
    assert ((changed[1::2] == 0).flatten(1).sum(1) >= 4).all()


@pytest.mark.parametrize("size", [-1, 2.5])
def test_a_size_that_is_none_is_refused(size: float) -> None:
    with pytest.raises(InvalidSettingError, match="cutout=.* must be a whole number of pixels, 0 or more"):
        Augmentation(cutout=size)  # type: ignore[arg-type]
