"""Published sets in their own folders: what is read of them, and what is told where something is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from cl_lightning.config.unused.conditions import BELOW_ROOT
from cl_lightning.core.errors import InvalidFileError
from cl_lightning.data.sources.base import FolderSource
from cl_lightning.data.sources.datasets import FOLDERS, PUBLISHED, at_hand, load_sources
from cl_lightning.data.sources.published import Listing, PublishedSet, reader
from cl_lightning.data.sources.read_options import Reading
from tests.data.folders import cache, refusal
from tests.data.published_sets import BIRDS, GOLDFISH, MAKE, PUG, SHARK, TERRIER, birds, picture

__all__ = ["cache"]  # a fixture that works by being here

SETS = sorted(PUBLISHED)
TRAIN = {
    "aircraft": {"data/images/0002.jpg": "F/A-18", "data/images/0001.jpg": "Boeing 737-700"},
    "cars": {"cars_train/00001.jpg": "BMW X5 2007", "cars_train/00002.jpg": "Audi TT 2011"},
    "cub200": {"images/001.Albatross/a.jpg": "001.Albatross", "images/002.Wren/d.jpg": "002.Wren"},
    "flowers102": {
        "jpg/image_00004.jpg": "2", "jpg/image_00001.jpg": "1", "jpg/image_00002.jpg": "1", "jpg/image_00003.jpg": "2",
    },
    "imagenet_r": {f"{GOLDFISH}/art_0.jpg": GOLDFISH, f"{SHARK}/art_0.jpg": SHARK},
    "stanford_dogs": {f"Images/{PUG}/p_1.jpg": PUG, f"Images/{TERRIER}/t_1.jpg": TERRIER},
    "tiny_imagenet": {
        f"train/{wnid}/images/{wnid}_{number}.JPEG": name
        for wnid, name in ((GOLDFISH, "goldfish"), (SHARK, "shark"))
        for number in (0, 1)
    },
}  # fmt: skip
TEST = {
    "aircraft": {"data/images/0003.jpg": "Boeing 737-700", "data/images/0004.jpg": "F/A-18"},
    "cars": {"cars_test/00001.jpg": "BMW X5 2007", "cars_test/00002.jpg": "Audi TT 2011"},
    "cub200": {"images/001.Albatross/b.jpg": "001.Albatross", "images/002.Wren/c.jpg": "002.Wren"},
    "flowers102": {"jpg/image_00006.jpg": "2", "jpg/image_00005.jpg": "1"},
    "imagenet_r": {},
    "stanford_dogs": {f"Images/{TERRIER}/t_2.jpg": TERRIER, f"Images/{PUG}/p_2.jpg": PUG},
    "tiny_imagenet": {
        "val/images/val_0.JPEG": "goldfish", "val/images/val_1.JPEG": "shark",
        "val/images/val_2.JPEG": "goldfish", "val/images/val_3.JPEG": "shark",
    },
}  # fmt: skip


def classes(source: FolderSource) -> dict[str, str]:
    return {path: source.class_names[label] for path, label in zip(source.paths, source.labels.tolist(), strict=True)}


def read(name: str, root: Path) -> tuple[FolderSource, FolderSource]:
    train, test = load_sources(name, root)
    assert isinstance(train, FolderSource)
    assert isinstance(test, FolderSource)
    return train, test


@pytest.mark.parametrize("name", SETS)
def test_files_and_classes_are_those_of_the_index(name: str, tmp_path: Path) -> None:
    assert not at_hand(name, tmp_path)
    MAKE[name](tmp_path)
    assert at_hand(name, tmp_path)
    train, test = read(name, tmp_path)
    if TEST[name]:
        assert (classes(train), classes(test)) == (TRAIN[name], TEST[name])
        assert [*classes(train)] == [*TRAIN[name]], "in the index's order"
    assert train.class_names == test.class_names == tuple(sorted(train.class_names))
    assert train.load_test(0, 4).shape == (3, 4, 4)
    assert torch.equal(load_sources(name, tmp_path, with_test=False)[0].labels, train.labels)
    assert load_sources(name, tmp_path, with_test=False)[1] is None


@pytest.mark.parametrize("name", SETS)
def test_keys_are_paths_below_the_set_s_folder(name: str, tmp_path: Path) -> None:
    """So that a set may be moved: exemplars and results name the same images."""
    for root in (tmp_path / "here", tmp_path / "there"):
        MAKE[name](root)
    here, there = (read(name, tmp_path / root) for root in ("here", "there"))
    assert [part.fingerprint for part in here] == [part.fingerprint for part in there]
    assert here[0].key(0) == next(iter(here[0].paths))
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / FOLDERS[name]).symlink_to(tmp_path / "here" / FOLDERS[name])
    assert [part.fingerprint for part in read(name, tmp_path / "link")] == [part.fingerprint for part in here]


@pytest.mark.parametrize("name", SETS)
def test_what_is_not_there_is_reported_and_never_downloaded(name: str, tmp_path: Path) -> None:
    where = f"pass root=DIR, where DIR/{FOLDERS[name]} holds "
    page = f", of {PUBLISHED[name].page}"
    assert refusal(name).startswith(f"root is not set: {where}")
    missing = refusal(name, tmp_path)
    assert missing.startswith(f"root={tmp_path} has no {FOLDERS[name]}: {where}")
    assert missing.endswith(page)
    (tmp_path / FOLDERS[name]).mkdir()
    empty = refusal(name, tmp_path)
    assert empty.startswith(f"root={tmp_path} has a {FOLDERS[name]} that is not whole (it has no ")
    assert empty.endswith(page)


@pytest.mark.parametrize("name", SETS)
def test_a_set_that_lies_one_folder_too_deep_or_too_high_is_found(name: str, tmp_path: Path) -> None:
    folder = FOLDERS[name]
    MAKE[name](tmp_path / "deep" / folder)
    deep = tmp_path / "deep" / folder / folder
    assert refusal(name, tmp_path / "deep") == (
        f"the folder {deep} is one folder too deep, it should be {deep.parent}: move what is in it to {deep.parent}"
    )
    assert refusal(name, deep) == (
        f"root={deep} holds the set itself, and the folder above is meant, which holds {folder}: "
        f"pass root={deep.parent}"
    )
    read(name, deep.parent)
    other = deep.rename(deep.parent / "other")
    assert refusal(name, other).endswith(f": pass root={other.parent} when other is renamed {folder}")


def test_a_table_of_the_options_names_the_same_sets() -> None:
    assert set(BELOW_ROOT) == set(FOLDERS)


MISSING = [
    ("aircraft", "data/variants.txt"),
    ("aircraft", "data/images_variant_test.txt"),
    ("cars", "devkit/cars_train_annos.mat"),
    ("cars", "cars_test_annos_withlabels.mat"),
    ("cub200", "image_class_labels.txt"),
    ("flowers102", "setid.mat"),
    ("flowers102", "imagelabels.mat"),
    ("stanford_dogs", "train_list.mat"),
    ("stanford_dogs", "test_list.mat"),
    ("tiny_imagenet", "words.txt"),
    ("tiny_imagenet", "val/val_annotations.txt"),
]


@pytest.mark.parametrize(("name", "file"), MISSING)
def test_a_missing_index_is_named(name: str, file: str, tmp_path: Path) -> None:
    MAKE[name](tmp_path)
    (tmp_path / FOLDERS[name] / file).unlink()
    told = refusal(name, tmp_path)
    assert f"has a {FOLDERS[name]} that is not whole (it has no {file}): pass root=DIR, where" in told


@pytest.mark.parametrize("name", sorted(set(SETS) - {"imagenet_r"}))  # which lists no file
def test_a_picture_that_is_missing_is_named_and_can_be_left_out(name: str, tmp_path: Path) -> None:
    MAKE[name](tmp_path)
    _, test = read(name, tmp_path)
    more = tmp_path / FOLDERS[name] / test.paths[0]
    if name == "tiny_imagenet":
        more.unlink()
        told = refusal(name, tmp_path)
        assert f"{FOLDERS[name]}/{test.paths[0]} (No such file or directory)" in told
        assert "on_broken=skip to leave them out" in told
        assert len(read_whole(name, tmp_path)) == len(test) - 1
        return
    more.write_bytes(b"no picture")
    assert f"{FOLDERS[name]}/{test.paths[0]} (" in refusal(name, tmp_path)
    assert "without an image" in refusal(name, tmp_path, on_broken="skip"), "it was the only one of its class"


def read_whole(name: str, root: Path) -> FolderSource:
    _, test = load_sources(name, root, on_broken="skip")
    assert isinstance(test, FolderSource)
    return test


ODD = {
    "twice": ([*BIRDS, BIRDS[0]], r"images\.txt lists images/001\.Albatross/a\.jpg twice: unpack"),
    "both parts": ([*BIRDS, (*BIRDS[0][:2], 0)], r"lists images/001\.Albatross/a\.jpg among the training images and"),
    "outside": ([*BIRDS, ("../../x.jpg", 1, 1)], r"images\.txt lists images/\.\./\.\./x\.jpg, which is no file in "),
    "no path": ([*BIRDS, ("a\0.jpg", 1, 1)], r"images\.txt lists images/a.*, which is no file in "),
}


def test_two_classes_of_one_name_are_refused(tmp_path: Path) -> None:
    rows = [("001.Wren/a.jpg", 1, 1), ("001.Wren/b.jpg", 2, 1)]
    birds(tmp_path, rows)
    assert "images.txt has 2 classes called 001.Wren: unpack the set anew, from " in refusal("cub200", tmp_path)


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_list_is_named(odd: str, tmp_path: Path) -> None:
    rows, told = ODD[odd]
    birds(tmp_path, rows)
    assert re.search(told, refusal("cub200", tmp_path))


def test_a_published_picture_lies_as_it_is_unless_it_is_to_be_turned(tmp_path: Path) -> None:
    birds(tmp_path)
    read_as = [load_sources("cub200", tmp_path, orientation=each)[0] for each in ("ignore", "apply")]
    assert [isinstance(source, FolderSource) and source.upright for source in read_as] == [False, True]


def test_names_are_one_however_their_accents_are_written(tmp_path: Path) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    picture(tmp_path / "set" / f"{apart}.png")

    def listed(_top: Path, _train: bool) -> Listing:
        return Listing("index", [f"{apart}.png"], [0], [apart])

    made = PublishedSet("set", "pictures", "*.png", "a page", listed)
    train, _ = reader("made", made)(tmp_path, False, Reading())
    assert (train.class_names, train.key(0)) == ((composed,), f"{composed}.png")
    assert train.paths == (f"{apart}.png",)


def test_an_error_of_ours_is_not_taken_for_a_damaged_set(tmp_path: Path) -> None:
    (tmp_path / "set" / "mark").mkdir(parents=True)

    def fails(top: Path, _train: bool) -> Listing:
        raise InvalidFileError(top, "is odd") if top.name == "set" else ZeroDivisionError

    with pytest.raises(InvalidFileError, match="is odd"):
        reader("made", PublishedSet("set", "pictures", "mark", "a page", fails))(tmp_path, False, Reading())
