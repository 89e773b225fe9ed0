"""What is typed, and the files that are meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cl_lightning.core.errors import UserError
from cl_lightning.data.sources.skipped_files import Aside
from cl_lightning.deploy.image_files import image_files
from tests.data.odd_folders import picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "b.png",
        "a.JPG",
        "notes.txt",
        ".hidden.png",
        "in/c.webp",
        "in/deep/d.tif",
        ".cache/e.png",
        "no/f.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def found(folder: Path, *typed: str) -> list[str]:
    return [str(file.relative_to(folder)) for file in image_files([str(folder / name) for name in typed])]


def test_a_folder_is_all_images_in_it_and_in_those_below(folder: Path) -> None:
    assert found(folder, "") == ["a.JPG", "b.png", "in/c.webp", "in/deep/d.tif"]


def test_a_pattern_is_expanded_here_and_takes_images_only(folder: Path) -> None:
    assert found(folder, "*") == ["a.JPG", "b.png", "in/c.webp", "in/deep/d.tif"]
    assert found(folder, "**/*.tif") == ["in/deep/d.tif"]
    assert found(folder, "[ab].*") == ["a.JPG", "b.png"]


def test_a_file_is_taken_by_its_name_whatever_its_suffix_and_only_once(folder: Path) -> None:
    assert found(folder, "notes.txt", "b.png", "", "b.png") == [
        "notes.txt", "b.png", "a.JPG", "in/c.webp", "in/deep/d.tif"
    ]  # fmt: skip


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(folder: Path) -> None:
    (folder / "x[1].png").touch()
    assert found(folder, "x[1].png") == ["x[1].png"]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("missing.png", "missing.png does not exist: type files, folders or quoted patterns"),
        ("no", "no holds no image: type"),
        ("*.gif", "nothing that matches .*gif is an image"),
        ("no/*", "nothing that matches .* is an image"),
    ],
)
def test_what_nothing_has_is_reported_in_one_line(typed: str, told: str, folder: Path) -> None:
    with pytest.raises(UserError, match=told) as error:
        found(folder, typed)
    assert "\n" not in str(error.value)
    assert re.search("type .*", str(error.value))


def test_what_is_no_image_is_counted_and_files_are_known_by_what_they_hold(folder: Path) -> None:
    (folder / "in" / "plain").write_bytes(picture("GIF"))
    (folder / "in" / "link").symlink_to(folder / "no")
    aside = Aside()
    files = image_files([str(folder), str(folder / "*")], aside=aside)
    assert folder / "in" / "plain" in files
    assert folder / "no" / "f.txt" not in files
    told = {each.kind: each.count for each in aside.kinds()}
    assert told == {".txt files": 2, "hidden files": 1, "hidden folders": 1, "links to folders": 1}
    aside = Aside()
    assert folder / "notes.txt" in image_files([str(folder), str(folder / "notes.txt")], aside=aside), "named"
    assert {each.kind: each.count for each in aside.kinds()}[".txt files"] == 1


def test_models_of_runs_from_before_look_at_names_alone(folder: Path) -> None:
    (folder / "in" / "plain").write_bytes(picture("GIF"))
    (folder / "in" / "b.gif").write_bytes(picture("GIF"))
    before = [folder / "in" / "c.webp", folder / "in" / "deep" / "d.tif"]
    assert image_files([str(folder / "in")], "by_suffix") == before
