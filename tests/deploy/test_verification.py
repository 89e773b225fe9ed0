"""An exported file against the model: whatever differs by more than rounding, or in one class, does not agree."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cl_lightning.core.errors import UserError
from cl_lightning.deploy.verification import TOLERANCE, Comparison, compare, sample
from tests.config.made import filled
from tests.data.published_sets import MAKE
from tests.deploy.runs import pictures, save_pictures
from tests.deploy.test_model import model

IMAGES = pictures(20, 4)
MODEL = model()


def scores(images: Tensor) -> Tensor:
    return MODEL.predict(images)["linear"]


def shifted(images: Tensor) -> Tensor:
    changed = scores(images).clone()
    changed[0, 0] += 3.0
    return changed


@pytest.mark.parametrize(
    ("file", "difference"),
    [
        (scores, 0.0),
        (lambda images: scores(images) + 1e-3, 1e-3),
        (shifted, 3.0),
        (lambda images: scores(images) + (len(images) == 7) * 5.0, 5.0),  # one that is wrong at another batch size
        (lambda images: scores(images) + (len(images) == 1) * 5.0, 5.0),
    ],
    ids=["the same", "rounded", "one score", "of seven", "of one"],
)
def test_the_largest_difference_at_any_size_of_a_batch(file: Callable[[Tensor], Tensor], difference: float) -> None:
    found = compare(MODEL, "linear", file, IMAGES)
    assert found.difference == pytest.approx(difference, abs=1e-4)
    assert found.scale == pytest.approx(scores(MODEL.preprocessing.normalised(IMAGES)).abs().max().item())


def test_images_with_another_class_are_counted() -> None:
    found = compare(MODEL, "linear", lambda images: -scores(images), IMAGES)
    assert found.changed == 20
    assert not found.agrees


@pytest.mark.parametrize(
    ("comparison", "agrees"),
    [
        (Comparison(TOLERANCE * 10, 10.0, 0), True),
        (Comparison(TOLERANCE * 10.01, 10.0, 0), False),
        (Comparison(0.0, 10.0, 1), False),
        (Comparison(float("nan"), 10.0, 0), False),
        (Comparison(0.0, float("nan"), 0), False),
    ],
)
def test_what_may_be_used(comparison: Comparison, agrees: bool) -> None:
    assert comparison.agrees is agrees


# ---- the images to compare on ------------------------------------------------------------------------------------


def test_images_that_are_typed_are_taken_at_equal_distances(tmp_path: Path) -> None:
    files = save_pictures(tmp_path, pictures(130, 4))
    files[2].write_bytes(b"no image")
    found = sample(MODEL, filled().data, [str(tmp_path)])
    assert found.origin == "63 images of --images"
    expected = [image for number, image in enumerate(pictures(130, 4)[::2][:64]) if number != 1]
    assert torch.equal(found.images, torch.stack(expected))


def test_none_of_them_is_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"--images .*: none could be read as an image, type others or leave it out"):
        sample(MODEL, filled().data, [str(tmp_path)])


def test_without_the_run_s_data_images_are_random_and_always_the_same(tmp_path: Path) -> None:
    gone = dataclasses.replace(filled("data=cifar100_10steps").data, root=str(tmp_path))
    one, other = sample(MODEL, gone, []), sample(MODEL, gone, [])
    assert one.images.shape == (64, 1, 4, 4)
    assert torch.equal(one.images, other.images)
    assert len(one.images.unique()) > 200
    assert one.origin.startswith("64 random images, because the run's data are not at hand")


def test_of_a_published_set_its_own_test_images_are_taken(tmp_path: Path) -> None:
    """Whatever else lies below the root, which several sets may share."""
    for name in ("cub200", "flowers102"):
        MAKE[name](tmp_path)
    data = dataclasses.replace(filled("data=cub200", f"data.root={tmp_path}").data, increment=1)
    found = sample(MODEL, data, [])
    assert found.origin == "2 images of cub200"
    assert found.images.shape == (2, 3, 4, 4)
    (tmp_path / "CUB_200_2011" / "train_test_split.txt").unlink()
    assert sample(MODEL, data, []).origin.startswith("64 random images")
