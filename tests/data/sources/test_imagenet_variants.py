"""Tiny-ImageNet in its forms, and ImageNet-R's split, which is of each image's path alone."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cl_lightning.data.sources.base import FolderSource
from cl_lightning.data.sources.datasets import load_sources
from cl_lightning.data.sources.imagenet_variants import for_testing
from tests.data.folders import cache, refusal
from tests.data.published_sets import GOLDFISH, RENDITIONS, SHARK, picture, renditions, tiny

__all__ = ["cache"]  # a fixture that works by being here


def both(name: str, root: Path) -> tuple[FolderSource, FolderSource]:
    train, test = load_sources(name, root)
    assert isinstance(train, FolderSource)
    assert isinstance(test, FolderSource)
    return train, test


# ---- Tiny-ImageNet -----------------------------------------------------------------------------------------------

FORMS = ["val/images/{file}", "val/{wnid}/{file}", "val/{wnid}/images/{file}", "val/images/{wnid}/{file}"]


@pytest.mark.parametrize("annotated", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_images_are_the_same_however_they_were_unpacked(form: str, annotated: bool, tmp_path: Path) -> None:
    tiny(tmp_path / "published")
    published = both("tiny_imagenet", tmp_path / "published")
    tiny(tmp_path / "other", form, annotated=annotated)
    if form == FORMS[0] and not annotated:
        assert "(it has no val/val_annotations.txt)" in refusal("tiny_imagenet", tmp_path / "other")
        return
    other = both("tiny_imagenet", tmp_path / "other")
    assert [part.fingerprint for part in other] == [part.fingerprint for part in published]
    assert other[1].contents.tolist() == published[1].contents.tolist()


def test_training_folders_may_have_lost_their_inner_folder(tmp_path: Path) -> None:
    tiny(tmp_path)
    before, _ = both("tiny_imagenet", tmp_path)
    for wnid in (GOLDFISH, SHARK):
        folder = tmp_path / "tiny-imagenet-200" / "train" / wnid
        for file in (folder / "images").iterdir():
            file.rename(folder / file.name)
        (folder / "images").rmdir()
    after, _ = both("tiny_imagenet", tmp_path)
    assert after.fingerprint == before.fingerprint


def test_classes_are_named_by_their_first_word_unless_two_share_it(tmp_path: Path) -> None:
    tiny(tmp_path)
    words = tmp_path / "tiny-imagenet-200" / "words.txt"
    expected = {
        "crane": ("crane, a bird", "crane"),
        "crane, a bird": ("crane, a bird", "crane, a machine"),
        f"crane ({GOLDFISH})": ("crane", "crane"),
    }
    for name, texts in expected.items():
        other = {"crane": "goose"}.get(name, texts[1])
        words.write_text(f"{SHARK}\t{other}\n{GOLDFISH}\t{texts[0]}\n")
        assert both("tiny_imagenet", tmp_path)[0].class_names[0] == name


def test_what_lies_beside_the_classes_is_counted(tmp_path: Path) -> None:
    tiny(tmp_path)
    train = tmp_path / "tiny-imagenet-200" / "train"
    picture(train / "n99999999" / "images" / "x.JPEG")
    picture(train / GOLDFISH / "images" / ".hidden.JPEG")
    found, _ = both("tiny_imagenet", tmp_path)
    assert len(found) == 4
    assert {each.kind: each.example for each in found.scanned.left_out} == {
        "folders beside the classes": "train/n99999999", "hidden files": f"train/{GOLDFISH}/images/.hidden.JPEG"
    }  # fmt: skip


ODD = {
    "unknown": ("val/val_annotations.txt", "a.JPEG\tn99\t0", "says in line 2 that a.JPEG is of class n99, which wnids"),
    "no tabs": (
        "val/val_annotations.txt",
        "a.JPEG n99",
        "says in line 2 that a.JPEG n99 is of class nothing, which wn",
    ),
    "twice": ("val/val_annotations.txt", f"val_0.JPEG\t{GOLDFISH}", "lists val/images/val_0.JPEG twice"),
    "words": ("wnids.txt", "n99999999", "words.txt has no words for n99999999, which wnids.txt lists"),
    "folder": ("wnids.txt", "n00001740", "not whole (it has no train/n00001740)"),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_indices_are_named_with_the_mend(odd: str, tmp_path: Path) -> None:
    tiny(tmp_path)
    name, line, told = ODD[odd]
    file = tmp_path / "tiny-imagenet-200" / name
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], line, *lines[1:]]) + "\n")
    message = refusal("tiny_imagenet", tmp_path)
    assert told in message
    assert message.endswith(("unpack the set anew, from http://cs231n.stanford.edu/tiny-imagenet-200.zip", ".zip"))


def test_a_test_image_in_two_class_folders_is_named(tmp_path: Path) -> None:
    tiny(tmp_path, "val/{wnid}/{file}", annotated=False)
    picture(tmp_path / "tiny-imagenet-200" / "val" / SHARK / "val_0.JPEG")
    assert "lists val/images/val_0.JPEG twice: unpack the set anew" in refusal("tiny_imagenet", tmp_path)


def test_no_classes_and_no_text_are_told(tmp_path: Path) -> None:
    tiny(tmp_path)
    file = tmp_path / "tiny-imagenet-200" / "wnids.txt"
    file.write_text("\n")
    assert f"{file} lists no class: " in refusal("tiny_imagenet", tmp_path)
    file.write_bytes(b"\xff\xfe\x00")
    assert f"{file} is no text in UTF-8: " in refusal("tiny_imagenet", tmp_path)


# ---- ImageNet-R --------------------------------------------------------------------------------------------------


def test_the_split_of_imagenet_r_is_what_it_was() -> None:
    """Numbers can be compared on one split only: it may never move."""
    keys = [f"n01443537/art_{number}.jpg" for number in range(20)]
    assert [number for number, is_test in enumerate(for_testing(keys)) if is_test] == [1, 10, 14, 15, 17]


def test_a_fifth_is_for_testing_and_each_image_s_side_is_its_own() -> None:
    keys = [f"{GOLDFISH}/sketch_{number}.jpg" for number in range(5000)]
    sides = dict(zip(keys, for_testing(keys), strict=True))
    assert sum(sides.values()) == pytest.approx(1000, abs=85)  # three standard deviations
    some = keys[::-3]
    assert for_testing(some) == [sides[key] for key in some]


def test_a_class_of_a_few_images_has_some_on_both_sides() -> None:
    for count in range(2, 8):
        keys = [f"{SHARK}/toy_{number}.jpg" for number in range(count)]
        assert 0 < sum(for_testing(keys)) < count
        assert for_testing(keys[::-1]) == for_testing(keys)[::-1]


def test_imagenet_r_is_split_within_its_class_folders(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    renditions(tmp_path)
    picture(tmp_path / "imagenet-r" / "more" / "x.jpg")
    with caplog.at_level(logging.WARNING):
        train, test = both("imagenet_r", tmp_path)
    assert "has 2 classes, and the published set 200: compare with no published number" in caplog.text
    assert sorted([*train.paths, *test.paths]) == sorted(RENDITIONS)
    for label, wnid in enumerate((GOLDFISH, SHARK)):
        keys = [file for file in RENDITIONS if file.startswith(wnid)]
        chosen = [key for key, is_test in zip(keys, for_testing(keys), strict=True) if is_test]
        assert chosen == [test.key(row) for row in range(len(test)) if test.labels[row] == label]
    assert {each.kind for each in train.scanned.left_out} == {".txt files", "folders beside the classes"}
    picture(tmp_path / "imagenet-r" / SHARK / "notes.txt")
    after = both("imagenet_r", tmp_path)
    assert set(train.paths) <= set(after[0].paths)
    assert set(test.paths) <= set(after[1].paths)
