"""What images consist of: seen whatever they are called, and the same wherever they are."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.data.scenarios.duplicates import equal_images
from cl_lightning.data.scenarios.image_identity import identity_of, joined_digest, shown_key
from cl_lightning.data.scenarios.image_list import how_it_differs, listing_of, merged, read_listing, write_listing
from cl_lightning.data.scenarios.multi_dataset import DatasetTasks, concat_scenarios, of_classes
from cl_lightning.data.scenarios.scenario import Scenario, split_scenario
from cl_lightning.data.sources.base import ArraySource, FolderSource
from cl_lightning.data.sources.datasets import load_sources
from tests.data.folders import cache, touch

__all__ = ["cache"]  # a fixture that works by being here

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


def digests(scenario: Scenario) -> dict[str, str]:
    return {part: own["digest"] for part, own in identity_of(scenario).items()}


def test_order_tasks_place_and_classes_left_out_make_no_difference(root: Path) -> None:
    first = identity_of(cut(root))
    assert {part: own["images"] for part, own in first.items()} == {
        "train": {"cat": 4, "dog": 4, "owl": 4}, "test": {"cat": 4, "dog": 4, "owl": 4}
    }  # fmt: skip
    assert identity_of(cut(root, (2, 0, 1), 3)) == first
    assert identity_of(cut(root, (1,))) == first
    moved = shutil.move(root, root.parent / "elsewhere")
    assert identity_of(cut(moved)) == first


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\xff"),
        lambda file: file.rename(file.with_name("9.pgm")),
        lambda file: file.rename(file.parent.parent / "dog/9.pgm"),
        lambda file: file.unlink(),
        lambda file: shutil.copy(file, file.with_name("9.pgm")),
    ],
)
def test_any_change_of_one_image_is_one_of_its_part(root: Path, part: str, change: Callable[[Path], object]) -> None:
    before = digests(cut(root))
    change(root / ("val" if part == "test" else part) / "cat/1.pgm")
    after = digests(cut(root))
    assert [name for name in before if before[name] != after[name]] == [part]


def test_a_validation_share_is_a_part_of_its_own(root: Path) -> None:
    first = cut(root, validation=0.25)
    assert {part: own["images"] for part, own in identity_of(first).items()} == {
        "train": {"cat": 3, "dog": 3, "owl": 3}, "validation": {"cat": 1, "dog": 1, "owl": 1}
    }  # fmt: skip
    assert identity_of(cut(root, (2, 0), 2, validation=0.25)) == identity_of(first)
    assert set(listing_of(first)["train"]) | set(listing_of(first)["validation"]) == set(listing_of(cut(root))["train"])


def made(count: int, seed: int, size: int = 4) -> ArraySource:
    pixels = rng.integers(Key(seed), torch.arange(count * size * size), 256).to(torch.uint8).view(count, 1, size, size)
    return ArraySource("made", pixels, torch.arange(count) % 2, ("a", "b"))


def test_arrays_are_known_by_their_pixels() -> None:
    source = made(6, 0)
    pixels = source.pixels.clone()
    pixels[3, 0, 0, 0] += 1
    other = dataclasses.replace(source, pixels=pixels)
    changed = [i for i in range(6) if not torch.equal(source.contents[i], other.contents[i])]
    assert changed == [3]
    rows = torch.tensor([4, 1])
    assert torch.equal(source.select(rows, "part").contents, source.contents[rows])
    flat = dataclasses.replace(source, pixels=source.pixels.view(6, 1, 2, 8))
    assert not torch.equal(flat.contents[0], source.contents[0]), "the same bytes in another shape are another image"


def test_what_images_were_made_from_counts_and_not_their_size(root: Path) -> None:
    """A sequence of arrays and files, at two sizes and in two orders of the classes of one set."""
    folder, test = load_sources("image_folder", root)
    assert isinstance(folder, FolderSource)
    assert isinstance(test, FolderSource)

    def joined(size: int, order: list[int]) -> Scenario:
        arrays = DatasetTasks("made", of_classes(made(6, 0), [0, 1]), of_classes(made(4, 1), [0, 1]), (2,))
        files = DatasetTasks("pets", of_classes(folder, order), of_classes(test, order), (3,))
        return concat_scenarios("sequence", [arrays, files], image_size=size)

    assert digests(joined(8, [0, 1, 2])) == digests(joined(16, [2, 0, 1]))
    only = [DatasetTasks("made", made(6, 0), made(4, 1), (2,))]
    small, large = (concat_scenarios("sequence", only, image_size=size) for size in (4, 8))
    assert isinstance(large.train, ArraySource)
    assert digests(small) == digests(large)


def test_the_listing_comes_back_and_equal_ones_make_equal_files(root: Path, tmp_path: Path) -> None:
    listing = listing_of(cut(root))
    write_listing(tmp_path / "one.csv.gz", listing)
    write_listing(tmp_path / "two.csv.gz", listing_of(cut(root, (2, 1, 0))))
    assert (tmp_path / "one.csv.gz").read_bytes() == (tmp_path / "two.csv.gz").read_bytes()
    assert read_listing(tmp_path / "one.csv.gz") == listing
    assert read_listing(tmp_path / "none.csv.gz") is None
    assert listing["test"]["cat/1.pgm"] == ("cat", identity_content(root / "val/cat/1.pgm"))


def identity_content(file: Path) -> str:
    import hashlib

    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()[:16]


@pytest.mark.parametrize("spoil", [lambda whole: whole[:-20], lambda whole: b"part,key\n", lambda whole: b""])
def test_a_damaged_listing_is_reported_and_is_none(
    root: Path, tmp_path: Path, spoil: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "images.csv.gz"
    write_listing(file, listing_of(cut(root)))
    file.write_bytes(spoil(file.read_bytes()))
    assert read_listing(file) is None
    assert f"{file} cannot be read" in caplog.text
    assert how_it_differs([file], cut(root)) == ""


def test_images_of_a_folder_that_was_learnt_are_compared_under_their_own_names(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "images.csv.gz"
    own = listing_of(cut(root))
    later = {part: {f"+4/{key}": value for key, value in images.items()} for part, images in own.items()}
    write_listing(file, merged({"train": {"other/0.pgm": ("other", "00")}}, later))
    touch(root, ["val/owl/2.pgm"], b"P5 1 1 255\n\xee")
    assert how_it_differs([file], cut(root), 4) == "1 of 12 test images changed: val/owl/2.pgm"
    assert how_it_differs([file], cut(root), 4, only="train") == ""
    assert how_it_differs([file], cut(root)).startswith("1 of 1 training images gone: train/other/0.pgm; 12 new: ")


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


def test_one_digest_for_several_places() -> None:
    assert joined_digest(["a"]) == "a"
    assert joined_digest([None]) is joined_digest(["a", None]) is None
    several = [
        joined_digest(["a", "b"]),
        joined_digest(["b", "a"]),
        joined_digest(["a", ""]),
        joined_digest(["a", "b", ""]),
    ]
    assert len(set(several)) == 4
