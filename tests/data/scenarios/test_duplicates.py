"""Equal images among what is trained and evaluated on, or in two classes."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st

from cl_lightning.data.scenarios.duplicates import equal_images
from cl_lightning.data.scenarios.image_identity import shown_key
from cl_lightning.data.scenarios.scenario import split_scenario
from cl_lightning.data.sources.base import ArraySource
from tests.data.scenarios.pets import cache, cut, made, root

__all__ = ["cache", "root"]  # fixtures that work by being here


def test_equal_images_are_found_by_content(root: Path) -> None:
    assert equal_images(cut(root)).trained_on.images == equal_images(cut(root)).two_classes.images == 0
    shutil.copy(root / "train/cat/0.pgm", root / "val/owl/0.pgm")  # both
    shutil.copy(root / "train/dog/1.pgm", root / "train/dog/9.pgm")  # neither
    shutil.copy(root / "val/dog/2.pgm", root / "val/cat/2.pgm")  # two classes
    found = equal_images(cut(root))
    assert (found.trained_on.images, found.trained_on.examples) == (1, (("train/cat/0.pgm", "val/owl/0.pgm"),))
    assert (found.two_classes.images, found.two_classes.cases) == (4, 2)
    assert found.two_classes.examples[1] == ("val/cat/2.pgm", "val/dog/2.pgm")
    without_owl = equal_images(cut(root, (0, 1)))
    assert (without_owl.trained_on.images, without_owl.two_classes.images) == (0, 2), "of classes that are learnt"


def test_equal_arrays_are_found_too() -> None:
    train, test = made(6, 0), made(4, 1)
    pixels = test.pixels.clone()
    pixels[3] = train.pixels[1]
    scenario = split_scenario(
        "made", train, dataclasses.replace(test, pixels=pixels), order=(0, 1), increment=1, image_size=4
    )
    found = equal_images(scenario)
    assert found.trained_on.examples == (("train/1", "test/3"),)
    assert found.two_classes.images == 0
    assert shown_key(scenario, "test", "3") == "test/3"


def array(name: str, levels: list[int], labels: list[int]) -> ArraySource:
    pixels = torch.tensor(levels, dtype=torch.uint8).view(-1, 1, 1, 1)
    return ArraySource(name, pixels, torch.tensor(labels), ("a", "b", "c"))


LABELS = [0, 0, 0, 1, 1, 1, 2, 2]


@given(st.lists(st.integers(0, 5), min_size=8, max_size=8), st.lists(st.integers(0, 5), min_size=8, max_size=8))
def test_equals_a_slow_comparison_of_all_pairs(train: list[int], test: list[int]) -> None:
    """Images of one pixel: their level is their content."""
    scenario = split_scenario(
        "toy", array("toy/train", train, LABELS), array("toy/test", test, LABELS), order=(2, 0), increment=1
    )
    learnt = [row for row, label in enumerate(LABELS) if label != 1]
    pairs = [(one, two) for one in learnt for two in learnt if train[one] == test[two]]
    images = [("train", row, train[row]) for row in learnt] + [("test", row, test[row]) for row in learnt]
    classes = {level: {LABELS[row] for _, row, other in images if other == level} for _, _, level in images}
    mixed = [level for level, of in classes.items() if len(of) > 1]
    found = equal_images(scenario)
    assert found.trained_on.images == len({two for _, two in pairs})
    assert found.two_classes.cases == len(mixed)
    assert found.two_classes.images == sum(level in mixed for _, _, level in images)
