"""The list of a run's images: it comes back as it was written, and names the images that differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cl_lightning.data.scenarios.image_list import (
    differences,
    how_it_differs,
    is_listed,
    listing_of,
    merged,
    named,
    parse_listing,
    read_listing,
    write_listing,
)  # fmt: skip
from tests.data.folders import touch
from tests.data.scenarios.pets import cache, cut, made, root

__all__ = ["cache", "root"]  # fixtures that work by being here


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


def shown(part: str, key: str) -> str:
    return f"{part}/{key}"


def test_what_differs_is_told_part_by_part_in_one_line() -> None:
    before = {"train": dict.fromkeys("abcde", ("cat", "00")), "test": {"x": ("cat", "01")}}
    assert differences(before, before, shown) == ""
    now = {"train": {"a": ("dog", "00"), "e": ("cat", "00"), "f": ("cat", "02")}, "test": {"x": ("cat", "01")}}
    assert differences(before, now, shown) == (
        "1 of 5 training images changed: train/a; 3 gone: train/b, train/c, train/d; 1 new: train/f"
    )
    now = {"train": before["train"], "test": {**before["test"], "y": ("cat", "03")}}
    assert differences(before, now, shown) == "1 new beside 1 test images: test/y"
    assert differences(before, {"train": {}, "test": before["test"]}, shown) == (
        "5 of 5 training images gone: train/a, train/b, train/c and 2 more"
    )


def test_of_an_image_in_two_lists_the_first_counts() -> None:
    first, second = {"train": {"a": ("cat", "00")}}, {"train": {"a": ("dog", "11"), "b": ("dog", "22")}, "test": {}}
    assert merged(first, second) == {"train": {"a": ("cat", "00"), "b": ("dog", "22")}, "test": {}}


def test_an_image_is_listed_with_its_content() -> None:
    source = made(4, 0)
    other = made(4, 1)
    listing = {"train": {str(row): ("a", source.contents[row].numpy().tobytes().hex()[:16]) for row in range(3)}}
    assert [is_listed(listing, source, key) for key in range(4)] == [True, True, True, False]
    assert not is_listed(listing, other, 0)
    assert not is_listed(None, source, 0)


def test_keys_and_names_of_any_signs_come_back(tmp_path: Path) -> None:
    listing = {"train": {'a,"b"\n': ("=1+1", "00"), "\udcff.png": ("ü", "11"), "": ("", "22")}}
    write_listing(tmp_path / "images.csv.gz", listing)
    assert parse_listing(tmp_path / "images.csv.gz") == listing


def test_a_file_that_would_grow_without_end_is_refused(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "images.csv.gz").write_bytes(gzip.compress(b"part,key,class,digest\n" + b"\n" * (1 << 22)))
    with pytest.raises(ValueError, match=r"images.csv.gz is not what was written \(it would grow far beyond"):
        parse_listing(tmp_path / "images.csv.gz")


def test_a_few_are_named() -> None:
    assert named(["a", "b", "c"]) == "a, b, c"
    assert named(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
