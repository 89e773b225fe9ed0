"""Twenty small images as an array and as a folder, in steps of a phase."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Order, Sampling
from cl_lightning.data.augmentation.pipeline import Augmentation, PerDataset, RandAugment
from cl_lightning.data.loading import (
    Images,
    Pipeline,
    RawBatch,
    StepDataset,
    step_loader,
)
from cl_lightning.data.sources.base import ArraySource, FolderSource
from cl_lightning.data.step_sampler import PhaseSampler, StepIndices

__all__ = ["array", "folder", "source"]  # fixtures work where they are imported

SIZE = 12
LABELS = torch.arange(20) % 3
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
AUGMENTED = Pipeline(SIZE, MEAN, STD, Augmentation(2, flip=True, brightness=0.2, randaugment=RandAugment()), Key(5))
CLEAN = Pipeline(SIZE, MEAN, STD, None)
PIXELS = rng.integers(Key(0), torch.arange(20 * 3 * SIZE * SIZE), 256).to(torch.uint8).view(20, 3, SIZE, SIZE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> FolderSource:
    root = tmp_path_factory.mktemp("images")
    noise = np.random.RandomState(0)
    for row in range(20):
        (root / f"class{row % 3}").mkdir(exist_ok=True)
        picture = noise.randint(0, 256, (20 + row, 25, 3), np.uint8)
        Image.fromarray(picture).save(root / f"class{row % 3}" / f"{row:02}.png")
    return FolderSource.scan(root, "folder/train")


@pytest.fixture(scope="module")
def array() -> ArraySource:
    return ArraySource("array/train", PIXELS, LABELS, ("a", "b", "c"))


@pytest.fixture(params=["array", "folder"])
def source(request: pytest.FixtureRequest) -> ArraySource | FolderSource:
    return request.getfixturevalue(request.param)


def steps(order: Order = Order.SHUFFLED) -> PhaseSampler:
    """Three epochs of four steps of two replicas with two images each (the last one smaller)."""
    rows = torch.tensor([0, 19, 3, 4, 5, 12, 11, 18, 9, 7, 2, 13, 14, 15])
    return PhaseSampler([rows, rows.flip(0)], Sampling(order, drop_last=False), epochs=3, batch=2, key=Key(3))


def raw(source: ArraySource | FolderSource, start: int = 0, workers: int = 0) -> list[RawBatch]:
    dataset = StepDataset(source, source.labels, steps(), AUGMENTED)
    return list(step_loader(dataset, range(start, len(dataset)), workers))


def expect_equal(a: RawBatch | Images, b: RawBatch | Images) -> None:
    for name, mine, other in zip(a._fields, a, b, strict=True):
        if isinstance(mine, Tensor) and isinstance(other, Tensor):
            assert torch.equal(mine, other), name
        else:
            assert mine == other, name


def drawn(batch: RawBatch) -> StepIndices:
    return StepIndices(batch.rows, batch.positions, batch.epoch)


SETS = PerDataset(
    (Augmentation(flip=True), None, Augmentation(2, False, 0.2)), set_of_class=torch.tensor([0, 1, 2])
)  # a set for each of the three classes
