"""Old exemplars, old test images and a new folder as one scenario."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cl_lightning.core.types import Task
from cl_lightning.data.scenarios.added_task import Part, extend, new_part
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ArraySource, FolderSource
from cl_lightning.data.sources.exemplar_store import ExemplarStore
from cl_lightning.deploy.preprocessing import Preprocessing

GREY = torch.arange(0, 250, 10, dtype=torch.uint8)[:24].view(6, 1, 2, 2).contiguous()


def folder(root: Path, *classes: str, size: tuple[int, int] = (2, 2), images: int = 3) -> Scenario:
    """A task of its own, on which it is evaluated too."""
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for image in range(images):
            pixels = np.full((size[1], size[0], 3), 40 * number + 10 * image, np.uint8)
            Image.fromarray(pixels).save(root / name / f"{image}.png")
    source = FolderSource.scan(root, "new")
    rows = torch.arange(len(source))
    task = Task(0, tuple(range(len(classes))), source.class_names, rows, rows)
    labels, order = source.labels, tuple(range(len(classes)))
    return Scenario("new", source, source, (task,), source.class_names, order, labels, labels, 2, 3, "test")


@pytest.fixture
def kept() -> ExemplarStore:
    labels = torch.tensor([0, 0, 1, 2, 2, 2])
    return ExemplarStore(
        ArraySource("exemplars", GREY, labels, ("a", "b", "c"), (9, 4, 1, 0, 7, 5)), (2, 1), 2, 1, ("first",)
    )


@pytest.fixture
def old_test() -> Part:
    labels = torch.tensor([5, 4, 3, 5])
    source = ArraySource("old/test", GREY[:4].flip(0), labels, tuple("abcdef"))
    return Part(source, torch.tensor([2, 1, -1, 0]))


def test_the_new_task_comes_behind_the_old_ones(kept: ExemplarStore, old_test: Part, tmp_path: Path) -> None:
    scenario = extend("toy", kept, [old_test], folder(tmp_path, "x", "y"))
    assert [task.names for task in scenario.tasks] == [("a", "b"), ("c",), ("x", "y")]
    assert [task.classes for task in scenario.tasks] == [(0, 1), (2,), (3, 4)]
    assert [task.train.tolist() for task in scenario.tasks] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert scenario.train_labels[scenario.tasks[2].train].tolist() == [3, 3, 3, 4, 4, 4]
    assert [scenario.test_labels[task.test].tolist() for task in scenario.tasks] == [[1, 0], [2], [3, 3, 3, 4, 4, 4]]
    assert (scenario.image_size, scenario.channels, scenario.order) == (2, 1, (0, 1, 2, 3, 4))
    assert scenario.fingerprints[0] == "first"
    assert len(scenario.fingerprints) == 2


def test_images_keep_their_keys_and_pixels(kept: ExemplarStore, old_test: Part, tmp_path: Path) -> None:
    train = extend("toy", kept, [old_test], folder(tmp_path, "x", "y")).train
    assert isinstance(train, ArraySource)
    assert [train.key(row) for row in range(8)] == [9, 4, 1, 0, 7, 5, "+3/x/0.png", "+3/x/1.png"]
    assert all(train.row(train.key(row)) == row for row in range(len(train)))
    assert torch.equal(train.pixels[:6], GREY)
    assert train.pixels[6:].flatten(1).tolist() == [[40 * (n // 3) + 10 * (n % 3)] * 4 for n in range(6)]


def test_a_picture_of_the_right_size_stays_and_others_are_brought_to_it(tmp_path: Path) -> None:
    noise = np.random.RandomState(0).randint(0, 256, (8, 8, 3), np.uint8)
    source = FolderSource("one", tmp_path, ("right.png", "wide.png"), torch.tensor([0, 0]), ("a",))
    Image.fromarray(noise).save(tmp_path / "right.png")
    Image.fromarray(np.repeat(np.repeat(noise, 4, 0), 6, 1)).save(tmp_path / "wide.png")
    assert torch.equal(source.load_as(0, 8, 3), torch.from_numpy(noise).permute(2, 0, 1))
    assert torch.equal(
        source.load_as(1, 8, 3), Preprocessing(8, 8, 3, (0.5,) * 3, (0.5,) * 3).read(tmp_path / "wide.png")
    )
    luminance = (noise * [0.299, 0.587, 0.114]).sum(-1)
    grey = source.load_as(0, 8, 1)
    assert grey.shape == (1, 8, 8)
    assert np.abs(grey[0].numpy() - luminance).max() <= 1


def test_old_tasks_without_test_images_are_evaluated_on_nothing(kept: ExemplarStore, tmp_path: Path) -> None:
    scenario = extend("toy", kept, [], folder(tmp_path, "x"))
    assert [len(task.test) for task in scenario.tasks] == [0, 0, 3]


def test_tests_of_an_added_task_are_numbered_behind_those_before(kept: ExemplarStore, tmp_path: Path) -> None:
    earlier = folder(tmp_path / "earlier", "c", images=2)
    part = new_part(earlier.test, earlier.test_labels, 2, 2)
    test = extend("toy", kept, [part], folder(tmp_path / "new", "x")).test
    assert test.labels.tolist() == [2, 2, 3, 3, 3]
    assert [test.key(row) for row in (0, 2)] == ["+2/c/0.png", "+3/x/0.png"]


def test_a_class_that_is_known_is_refused_by_name(kept: ExemplarStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='class "b" is known already: rename the folder b, or leave it out'):
        extend("toy", kept, [], folder(tmp_path, "b", "x"))


def test_files_stay_files(tmp_path: Path) -> None:
    old = FolderSource.scan(folder(tmp_path / "old", "a", "b", size=(9, 5)).train.root, "old")  # type: ignore[attr-defined]
    kept = ExemplarStore(old, (2,), 4, 3, ("first",))
    train = extend("toy", kept, [], folder(tmp_path / "new", "x", size=(30, 20))).train
    assert isinstance(train, FolderSource)
    assert [train.key(row) for row in (0, 6)] == ["a/0.png", "+2/x/0.png"]
    assert train.row("+2/x/2.png") == 8
    assert train.load_test(6, 4).shape == (3, 4, 4)
    assert torch.equal(train.load_test(5, 4), old.load_test(5, 4))
    with pytest.raises(ValueError, match=r"image 'c/0\.png' is not in toy/train, which holds 9 images"):
        train.row("c/0.png")


@pytest.mark.parametrize(
    ("known", "new", "alike"),
    [("cat", "Cat", True), ("red fox", "Red_Fox", True), ("fox", "fo x", True), ("fox", "foxes", False)],
)
def test_a_class_that_is_called_nearly_as_a_known_one_wants_to_be_allowed(
    tmp_path: Path, known: str, new: str, alike: bool
) -> None:
    labels = torch.tensor([0, 0])
    kept = ExemplarStore(ArraySource("exemplars", GREY[:2], labels, (known,), (0, 1)), (1,), 2, 1, ("first",))
    found = folder(tmp_path, new)
    if alike:
        with pytest.raises(ValueError, match=f'"{new}" is called nearly as "{known}".* pass allow_similar=true'):
            extend("toy", kept, [], found)
    assert extend("toy", kept, [], found, allow_similar=True).class_names == (known, new)


def test_one_name_is_known_however_its_accents_are_written(tmp_path: Path) -> None:
    kept = ExemplarStore(ArraySource("old", GREY[:1], torch.tensor([0]), ("cafe\u0301",), (0,)), (1,), 2, 1, ("first",))
    with pytest.raises(ValueError, match="is known already"):
        extend("toy", kept, [], folder(tmp_path, "caf\u00e9"), allow_similar=True)


def test_files_are_read_as_those_before(tmp_path: Path) -> None:
    """All or none of a run's pictures are turned as EXIF says."""
    old = FolderSource.scan(folder(tmp_path / "old", "a").train.root, "old")  # type: ignore[attr-defined]
    new = folder(tmp_path / "new", "x")
    turned = dataclasses.replace(new.train, upright=True)  # type: ignore[type-var]
    for source, told in ((old, "^orientation is another than"), (dataclasses.replace(old, upright=True), None)):
        kept = ExemplarStore(source, (1,), 2, 3, ("first",))
        task = dataclasses.replace(new, train=turned, test=turned)
        if told:
            with pytest.raises(ValueError, match=told):
                extend("toy", kept, [], task)
        else:
            train = extend("toy", kept, [], task).train
            assert isinstance(train, FolderSource)
            assert train.upright
