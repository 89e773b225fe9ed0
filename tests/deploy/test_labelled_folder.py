"""Folders of the user's own and the classes of a model: matched by name, and everything else named."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from cl_lightning.core.errors import UserError
from cl_lightning.data.sources.skipped_files import Aside
from cl_lightning.deploy.labelled_folder import MatchedFolder, labelled_folder, shortened
from cl_lightning.deploy.preprocessing import Preprocessing
from tests.deploy.test_model import model

NFD = unicodedata.normalize("NFD", "café")
MODEL = model(
    class_names=("red fox", "café", "owl", "digits/3", "elk"),
    preprocessing=Preprocessing(4, 4, 3, (0.5,), (0.25,), files="any"),
)


def pictures(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)
    return root


def read(folder: Path, labels: range = range(5), aside: Aside | None = None) -> MatchedFolder:
    return labelled_folder(folder, MODEL, labels, aside or Aside())


def test_classes_are_matched_by_name_however_accents_are_written(tmp_path: Path) -> None:
    aside = Aside()
    pictures(tmp_path, f"{NFD}/1.png", "red fox/1.png", "red fox/young/2.png", "owl/1.png")
    (tmp_path / "owl" / "notes.txt").write_text("x")
    found = read(tmp_path, aside=aside)
    assert found.images.labels.tolist() == [0, 0, 1, 2]
    assert [each.name for each in found.images.names] == ["1.png", "2.png", "1.png", "1.png"]
    assert found.images.read(3).shape == (3, 4, 4)
    assert [(each.kind, each.count) for each in aside.kinds()] == [(".txt files", 1)]
    assert found.images.origin == str(tmp_path)


def test_what_is_not_matched_is_named(tmp_path: Path) -> None:
    pictures(tmp_path, "owl/1.png", "Red_Fox/1.png", "badger/1.png")
    (tmp_path / "elk").mkdir()
    found = read(tmp_path)
    assert found.unknown == ("Red_Fox", "badger")
    assert found.lines(MODEL, range(5)) == [
        "left out, of no class of the model: Red_Fox, badger (is Red_Fox meant to be red fox?)",
        "class elk is left out: its folder holds no image",
        "without images, 4 of 5 classes: red fox, café, digits/3, elk",
    ]


def test_classes_of_other_tasks_are_left_out_where_a_task_is_given(tmp_path: Path) -> None:
    found = read(pictures(tmp_path, "owl/1.png", "red fox/1.png", "elk/1.png"), range(2, 4))
    assert found.images.labels.tolist() == [2]
    assert found.lines(MODEL, range(2, 4)) == [
        "left out, of other tasks: elk, red fox",
        "without images, 1 of 2 classes: digits/3",
    ]


@pytest.mark.parametrize("part", ["test", "Testing", "val", "VALIDATION"])
def test_a_part_of_the_folder_is_taken_and_named(part: str, tmp_path: Path) -> None:
    found = read(pictures(tmp_path, f"{part}/owl/1.png", "train/owl/1.png", "train/owl/2.png"))
    assert found.images.origin == f"{tmp_path / part}, the part {part} of {tmp_path}"
    assert len(found.images.labels) == 1


def test_test_images_come_before_validation_images(tmp_path: Path) -> None:
    found = read(pictures(tmp_path, "val/owl/1.png", "test/owl/1.png"))
    assert found.images.names == [tmp_path / "test" / "owl" / "1.png"]


def test_classes_of_several_data_sets_lie_below_the_name_of_their_set(tmp_path: Path) -> None:
    found = read(pictures(tmp_path, "digits/3/1.png", "owl/1.png"))
    assert found.images.labels.tolist() == [2, 3]
    assert found.unknown == ()


def test_without_a_match_both_sides_are_named(tmp_path: Path) -> None:
    pictures(tmp_path / "one", "cow/1.png", "Owl/1.png")
    with pytest.raises(UserError) as refused:
        read(tmp_path / "one")
    assert str(refused.value) == (
        f"{tmp_path / 'one'} has no class of the model: its folders are Owl, cow, the model's classes are red fox, "
        "café, owl, digits/3, elk (is Owl meant to be owl?): name folders after classes"
    )
    with pytest.raises(UserError, match="has no class of the model: its folders are train, the model's"):
        read(pictures(tmp_path / "two", "train/owl/1.png"))


def test_a_folder_without_class_folders_says_what_is_wanted(tmp_path: Path) -> None:
    wanted = "type a folder with one folder of pictures a class"
    with pytest.raises(UserError, match=f"has no class folders: {wanted}"):
        read(pictures(tmp_path, "1.png"))
    with pytest.raises(UserError, match=f"does not exist: {wanted}"):
        read(tmp_path / "nothing")
    with pytest.raises(UserError, match=f"is no folder: {wanted}"):
        read(tmp_path / "1.png")
    (tmp_path / "owl").mkdir()
    with pytest.raises(UserError, match=r"holds no image of a class of the model \(class owl is left out: its folder"):
        read(tmp_path)


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    pictures(tmp_path, "café/1.png", f"{NFD}/2.png")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system has one name for both")
    with pytest.raises(UserError, match="which are one name"):
        read(tmp_path)


def test_many_names_are_shortened() -> None:
    assert shortened(["a", "b"]) == "a, b"
    assert shortened([str(number) for number in range(100)]) == "0, 1, 2, 3, 4, 5 and 94 more"
