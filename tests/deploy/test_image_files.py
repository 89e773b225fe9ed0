"""What is typed, and the files that are meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cl_lightning.deploy.image_files import image_files
from cl_lightning.errors import UserError


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
def test_what_nothing_has_is_told_in_one_line(typed: str, told: str, folder: Path) -> None:
    with pytest.raises(UserError, match=told) as error:
        found(folder, typed)
    assert "\n" not in str(error.value)
    assert re.search("type .*", str(error.value))
