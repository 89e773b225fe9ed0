"""A folder of pictures of which no two are the same, a scenario of it, and arrays of noise."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.data.scenarios.scenario import Scenario, split_scenario
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.data.sources.datasets import load_sources
from tests.data.folders import cache, touch

__all__ = ["FILES", "cache", "cut", "made", "root"]  # fixtures work where they are imported

FILES = [f"{part}/{name}/{file}.pgm" for part in ("train", "val") for name in ("cat", "dog", "owl") for file in "0123"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Every picture its own."""
    for index, name in enumerate(FILES):
        touch(tmp_path / "pets", [name], b"P5 1 1 255\n" + bytes([index]))
    return tmp_path / "pets"


def cut(root: Path, order: tuple[int, ...] = (0, 1, 2), increment: int = 1, validation: float = 0.0) -> Scenario:
    train, test = load_sources("image_folder", root, with_test=not validation)
    return split_scenario(
        "image_folder", train, test, order=order, increment=increment, validation=validation, image_size=8
    )


def made(count: int, seed: int, size: int = 4) -> ArraySource:
    pixels = rng.integers(Key(seed), torch.arange(count * size * size), 256).to(torch.uint8).view(count, 1, size, size)
    return ArraySource("made", pixels, torch.arange(count) % 2, ("a", "b"))
