"""Files that do not decode, before a scenario exists."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from cl_lightning.data.sources.base import FolderSource
from cl_lightning.data.sources.datasets import load_sources, read_again
from tests.data.folders import cache, refusal, touch

__all__ = ["cache"]  # a fixture that works by being here


class TestBroken:
    """Files that do not decode, before a scenario exists."""

    @staticmethod
    def tree(root: Path) -> Path:
        touch(root, [f"{part}/{name}/{file}.png" for part in ("train", "val") for name in "ab" for file in range(4)])
        return touch(root, ["train/a/2.png", "train/b/0.png", "val/b/3.png"], b"nothing")

    def test_they_are_named_in_one_line(self, tmp_path: Path) -> None:
        why = "(cannot identify image file)"
        assert refusal("image_folder", self.tree(tmp_path)) == (
            f"root={tmp_path} holds 16 images, of which 3 cannot be decoded "
            f"(train/a/2.png {why}, train/b/0.png {why}, val/b/3.png {why}): "
            "repair or remove them, or pass on_broken=skip to leave them out"
        )

    def test_of_many_the_first_are_named_and_the_log_has_all(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        touch(self.tree(tmp_path), ["train/a/0.png", "train/a/1.png"], b"nothing")
        with caplog.at_level(logging.INFO):
            message = refusal("image_folder", tmp_path)
        assert "of which 5 cannot be decoded (train/a/0.png (" in message
        assert "train/a/2.png (cannot identify image file) and 2 more): repair" in message
        logged = [record.getMessage().split()[3] for record in caplog.records]
        assert logged == ["train/a/0.png", "train/a/1.png", "train/a/2.png", "train/b/0.png", "val/b/3.png"]

    def test_they_can_be_left_out(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        train, test = load_sources("image_folder", self.tree(tmp_path), on_broken="skip")
        assert isinstance(train, FolderSource)
        assert isinstance(test, FolderSource)
        assert train.paths == ("a/0.png", "a/1.png", "a/3.png", "b/1.png", "b/2.png", "b/3.png")
        assert train.labels.tolist() == [0, 0, 0, 1, 1, 1]
        assert test.paths == ("a/0.png", "a/1.png", "a/2.png", "a/3.png", "b/0.png", "b/1.png", "b/2.png")
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert f"{tmp_path} holds 16 images, of which 3 cannot be decoded: train/a/2" in record.getMessage()
        assert record.getMessage().endswith("they are left out")
        caplog.clear()
        with caplog.at_level(logging.INFO), read_again():
            load_sources("image_folder", tmp_path, on_broken="skip")
        assert [record.levelname for record in caplog.records] == ["INFO"], "it has been told"
        for name in ("train/a/2.png", "train/b/0.png", "val/b/3.png"):
            (tmp_path / name).unlink()
        removed, removed_test = load_sources("image_folder", tmp_path)
        assert removed_test is not None
        assert (train.name, train.fingerprint) == (removed.name, removed.fingerprint)
        assert (test.name, test.fingerprint) == (removed_test.name, removed_test.fingerprint)

    def test_the_others_keep_their_side_of_a_split(self, tmp_path: Path) -> None:
        names = [f"{name}/{file}.png" for name in "ab" for file in range(40)]
        before = load_sources("image_folder", touch(tmp_path, names))
        gone = {"a/3.png", "a/6.png", "b/5.png"}
        touch(tmp_path, sorted(gone), b"nothing")
        for whole, source in zip(before, load_sources("image_folder", tmp_path, on_broken="skip"), strict=True):
            assert isinstance(whole, FolderSource)
            assert isinstance(source, FolderSource)
            assert set(whole.paths) & gone
            assert source.paths == tuple(path for path in whole.paths if path not in gone)

    @pytest.mark.parametrize("part", ["train", "val"])
    def test_a_class_that_would_be_empty_is_named(self, tmp_path: Path, part: str) -> None:
        touch(self.tree(tmp_path), [f"{part}/b/{file}.png" for file in range(4)], b"nothing")
        assert refusal("image_folder", tmp_path, on_broken="skip") == (
            f"on_broken=skip leaves class b of image_folder/{part} without an image: repair "
            f"{tmp_path}/{part}/b/0.png (cannot identify image file), or add others of that class"
        )

    def test_test_images_that_are_not_wanted_are_not_looked_at(self, tmp_path: Path) -> None:
        touch(tmp_path, [f"{name}/{file}.png" for name in "ab" for file in range(10)])
        touch(tmp_path, ["a/6.png", "b/5.png"], b"nothing")
        assert "of which 2 cannot be decoded" in refusal("image_folder", tmp_path)
        assert len(load_sources("image_folder", tmp_path, with_test=False)[0]) == 16
        touch(tmp_path, [f"{part}/n{label:03d}/a.JPEG" for label in range(100) for part in ("train", "val")])
        touch(tmp_path, ["val/n007/a.JPEG"], b"nothing")
        assert "holds 200 images, of which 1 cannot" in refusal("imagenet100", tmp_path)
        assert len(load_sources("imagenet100", tmp_path, with_test=False)[0]) == 100

    def test_classes_beyond_the_hundred_are_not_looked_at(self, tmp_path: Path) -> None:
        touch(tmp_path, [f"{part}/n{label:03d}/a.JPEG" for label in range(100) for part in ("train", "val")])
        touch(tmp_path, [f"train/n{label:03d}/a.JPEG" for label in range(100, 1000)], b"nothing")
        assert len(load_sources("imagenet100", tmp_path)[0]) == 100

    def test_arrays_are_not_scanned(self, tmp_path: Path, cache: Path) -> None:
        load_sources("digits", tmp_path)
        assert list(cache.iterdir()) == []

    def test_other_mistakes_are_reported_before_anything_is_decoded(self, tmp_path: Path, cache: Path) -> None:
        touch(tmp_path, ["train/a/1.png", "train/b/1.png", "val/a/2.png"], b"nothing")
        assert re.search("class folder .*val/b does not exist", refusal("image_folder", tmp_path))
        assert list(cache.iterdir()) == []
