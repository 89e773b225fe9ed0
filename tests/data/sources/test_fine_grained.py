"""Index files of the fine-grained sets: which part is trained on, and faults that are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from cl_lightning.data.sources.base import FolderSource
from cl_lightning.data.sources.datasets import load_sources
from tests.data.folders import cache, refusal
from tests.data.published_sets import BIRDS, PUG, TERRIER, birds, dogs, dogs_list, flowers

__all__ = ["cache"]  # a fixture that works by being here


def test_birds_without_a_line_are_named(tmp_path: Path) -> None:
    birds(tmp_path)
    for file in ("train_test_split", "image_class_labels"):
        (tmp_path / "CUB_200_2011" / f"{file}.txt").write_text("1 1\n2 0\n3 0\n")
        told = refusal("cub200", tmp_path)
        assert f"{file}.txt has no line for image 4: unpack the set anew, from https://www.vision.caltech" in told
    assert len(BIRDS) == 4


# ---- flowers -----------------------------------------------------------------------------------------------------


def test_flowers_train_on_two_parts_and_have_numbers_for_names(tmp_path: Path) -> None:
    """Classes are numbered by their labels, whichever come first."""
    flowers(tmp_path, labels=(10, 10, 2, 2, 10, 2), split=([4, 1], [2, 3], [6, 5]))
    train, test = load_sources("flowers102", tmp_path)
    assert isinstance(train, FolderSource)
    assert test is not None
    assert train.class_names == test.class_names == ("2", "10")
    assert train.labels.tolist() == [0, 1, 1, 0]
    assert test.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("split", "told"),
    [
        (([4, 1], [2, 9], [6, 5]), "setid.mat lists image 9, imagelabels.mat has 1 to 6: unpack the set anew"),
        (([4, 0], [2, 3], [6, 5]), "setid.mat lists image 0, "),
        (([4, 1], [1, 3], [6, 5]), "setid.mat lists jpg/image_00001.jpg twice"),
        (([4, 1], [2, 3], [6, 2]), "lists jpg/image_00002.jpg among the training images and among the test images"),
    ],
)
def test_a_wrong_split_of_the_flowers_is_named(
    split: tuple[list[int], list[int], list[int]], told: str, tmp_path: Path
) -> None:
    flowers(tmp_path, split=split)
    assert told in refusal("flowers102", tmp_path)


def test_a_damaged_file_of_the_flowers_is_named(tmp_path: Path) -> None:
    flowers(tmp_path)
    file = tmp_path / "flowers-102" / "setid.mat"
    file.write_bytes(file.read_bytes()[:140])
    told = refusal("flowers102", tmp_path)
    assert told.startswith(f"{file} ")
    assert told.endswith("unpack the set anew, from https://www.robots.ox.ac.uk/~vgg/data/flowers/102/")
    savemat(file, {"trnid": np.array([[1]])})
    assert f"{file} has no valid: " in refusal("flowers102", tmp_path)


# ---- dogs --------------------------------------------------------------------------------------------------------


def test_the_lists_of_the_dogs_may_have_a_folder_of_their_own(tmp_path: Path) -> None:
    dogs(tmp_path / "beside")
    dogs(tmp_path / "apart", lists="lists")
    beside, apart = (load_sources("stanford_dogs", tmp_path / where) for where in ("beside", "apart"))
    assert [part.fingerprint for part in beside if part] == [part.fingerprint for part in apart if part]


@pytest.mark.parametrize(
    ("part", "files", "labels", "told"),
    [
        ("train", [f"{PUG}/p_1.jpg", f"{TERRIER}/t_1.jpg"], [2], "train_list.mat has 2 files and 1 labels: unpack"),
        ("train", [f"{PUG}/p_1.jpg", f"{TERRIER}/t_1.jpg"], [1, 1], f"has {PUG} and {TERRIER} as class 1"),
        ("train", [f"{PUG}/p_1.jpg"] * 2, [2, 2], f"train_list.mat lists Images/{PUG}/p_1.jpg twice"),
        ("test", [f"{TERRIER}/t_2.jpg"], [3], "test_list.mat has class 3, train_list.mat has none of it"),
        ("test", [f"{TERRIER}/t_1.jpg"], [1], f"lists Images/{TERRIER}/t_1.jpg among the training images and"),
    ],
)
def test_a_wrong_list_of_dogs_is_named(
    part: str, files: list[str], labels: list[int], told: str, tmp_path: Path
) -> None:
    dogs(tmp_path, lists="lists")
    dogs_list(tmp_path / "stanford_dogs" / "lists" / f"{part}_list.mat", files, labels)
    assert told in refusal("stanford_dogs", tmp_path)
