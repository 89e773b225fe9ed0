"""The user's own pictures: which part is evaluated on, and how a share is split off where there are none."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from cl_lightning.data.scenarios.scenario import Scenario, split_scenario
from cl_lightning.data.sources.base import FolderSource
from cl_lightning.data.sources.datasets import load_sources
from cl_lightning.data.sources.image_folder import evaluated_part, find_parts
from tests.data.folders import cache, refusal, touch

__all__ = ["cache"]  # a fixture that works by being here


def read(root: Path, **options: object) -> tuple[FolderSource, FolderSource]:
    train, test = load_sources("image_folder", root, **options)  # type: ignore[arg-type]
    assert isinstance(train, FolderSource)
    assert isinstance(test, FolderSource)
    return train, test


def scenario(root: Path, **options: object) -> Scenario:
    train, test = read(root, **options)
    return split_scenario("pets", train, test, order=range(2), increment=1)


class TestParts:
    @staticmethod
    def tree(root: Path, *parts: str) -> Path:
        return touch(root, [f"{part}/{name}/{place}.png" for place, part in enumerate(parts) for name in "ab"])

    def test_all_three_are_trained_and_tested_on_and_the_third_is_reported_to_be_unused(self, tmp_path: Path) -> None:
        found = scenario(self.tree(tmp_path, "train", "val", "test"))
        assert [found.train.key(row) for row in range(2)] == ["a/0.png", "b/0.png"]
        assert [found.test.key(row) for row in range(2)] == ["a/2.png", "b/2.png"]
        assert (found.evaluates_on, found.evaluation_folder, found.unused_folder) == ("test", "test", "val")

    def test_a_search_may_look_at_the_validation_part_whose_number_is_none_of_a_test(self, tmp_path: Path) -> None:
        found = scenario(self.tree(tmp_path, "train", "val", "test"), evaluate_on="val")
        assert found.test.key(0) == "a/1.png"
        assert (found.evaluates_on, found.evaluation_folder, found.unused_folder) == ("validation", "val", "test")

    def test_a_validation_part_alone_is_tested_on_as_that_of_imagenet(self, tmp_path: Path) -> None:
        found = scenario(self.tree(tmp_path, "train", "val"))
        assert (found.evaluates_on, found.evaluation_folder, found.unused_folder) == ("test", "val", None)
        assert scenario(tmp_path, evaluate_on="val").evaluates_on == "validation"

    def test_runs_from_before_go_on_with_what_they_were_evaluated_on(self, tmp_path: Path) -> None:
        found = scenario(self.tree(tmp_path, "train", "val", "test", "Validation"), evaluate_on="val_or_test")
        assert found.test.key(0) == "a/1.png"
        assert (found.evaluates_on, found.evaluation_folder) == ("test", "val")

    @pytest.mark.parametrize(("wanted", "there"), [("test", "val"), ("val", "test")])
    def test_a_part_that_is_asked_for_and_missing_is_one_line(self, tmp_path: Path, wanted: str, there: str) -> None:
        self.tree(tmp_path, "train", there)
        assert refusal("image_folder", tmp_path, evaluate_on=wanted) == (
            f"evaluate_on={wanted}, but {tmp_path} has no folder {wanted}: add it, or pass evaluate_on={there}"
        )

    def test_class_folders_alone_have_no_part_to_ask_for(self, tmp_path: Path) -> None:
        touch(tmp_path, [f"{name}/{number}.png" for name in "ab" for number in range(4)])
        assert refusal("image_folder", tmp_path, evaluate_on="val").startswith("evaluate_on=val needs folders")

    @pytest.mark.parametrize(
        ("parts", "used"),
        [
            (("Train", "Val"), "Val"),
            (("TRAIN", "TEST"), "TEST"),
            (("train", "valid"), "valid"),
            (("train", "validation"), "validation"),
            (("Training", "Testing"), "Testing"),
            (("training", "Validation", "test"), "test"),
        ],
    )
    def test_other_spellings(self, tmp_path: Path, parts: tuple[str, ...], used: str) -> None:
        found = scenario(self.tree(tmp_path, *parts))
        assert found.evaluation_folder == used
        assert found.class_names == ("a", "b")
        assert found.test.key(0) == f"a/{len(parts) - 1}.png"

    def test_two_spellings_of_one_part_are_refused(self, tmp_path: Path) -> None:
        self.tree(tmp_path, "train", "val", "valid")
        assert refusal("image_folder", tmp_path) == (
            f"root={tmp_path} has val and valid, which may both be the val part: rename or remove one"
        )

    def test_unsorted_test_pictures_are_not_evaluated_on(self, tmp_path: Path) -> None:
        """As contests give them out."""
        touch(self.tree(tmp_path, "train", "val"), ["test/0001.png", "test/0002.png"])
        found = scenario(tmp_path)
        assert (found.evaluation_folder, found.unused_folder) == ("val", "test")
        assert found.evaluates_on == "validation"

    def test_what_lies_beside_the_parts_is_counted(self, tmp_path: Path) -> None:
        beside = ["extra/a/9.png", "labels.csv", "test/notes.txt", "Thumbs.db"]
        touch(self.tree(tmp_path, "train", "test"), beside, b"-")
        told = {each.kind: each.example for each in read(tmp_path)[0].scanned.left_out}
        assert told == {"folders beside the parts": "extra", ".csv files": "labels.csv", ".txt files": "test/notes.txt"}

    def test_a_class_may_be_called_as_a_part(self, tmp_path: Path) -> None:
        touch(tmp_path, [f"{name}/{n}.png" for name in ("bus", "Train", "test") for n in range(5)])
        touch(tmp_path, ["Train/steam/1.png"])
        assert find_parts(tmp_path) == {"train": "Train", "test": "test"}, "which has folders"
        (tmp_path / "test").rename(tmp_path / "tram")
        assert find_parts(tmp_path) == {}, "which has images, and nothing that it would be the counterpart of"

    def test_a_class_without_counterpart_is_named_with_what_it_may_be(self, tmp_path: Path) -> None:
        touch(tmp_path, ["train/cat/1.png", "train/dog/1.png", "val/Cat/1.png", "val/dog/1.png"])
        assert refusal("image_folder", tmp_path) == (
            f"class folder {tmp_path}/val/Cat has no counterpart in train (did you mean cat?): add or remove it"
        )

    def test_validation_images_are_set_aside_of_the_training_part(self, tmp_path: Path) -> None:
        self.tree(tmp_path, "train", "train", "test")
        train, _ = load_sources("image_folder", tmp_path, with_test=False)
        found = split_scenario("pets", train, None, order=range(2), increment=1, validation=0.5)
        assert (found.evaluates_on, found.evaluation_folder) == ("validation", None)

    def test_exports_are_compared_on_the_same_part(self, tmp_path: Path) -> None:
        parts = find_parts(self.tree(tmp_path, "train", "val", "test"))
        assert [evaluated_part(tmp_path, parts, on) for on in ("auto", "val", "val_or_test")] == ["test", "val", "val"]


class TestShare:
    @pytest.mark.parametrize(("classes", "each", "test"), [(4, 8, 2), (6, 20, 4), (12, 6, 1), (110, 3, 1), (2, 2, 1)])
    def test_every_class_gives_its_share(self, tmp_path: Path, classes: int, each: int, test: int) -> None:
        touch(tmp_path, [f"c{label:03d}/{number}.png" for label in range(classes) for number in range(each)])
        train_source, test_source = read(tmp_path)
        assert test_source.labels.bincount().tolist() == [test] * classes
        assert train_source.labels.bincount().tolist() == [each - test] * classes
        assert not set(train_source.paths) & set(test_source.paths)

    def test_no_share_is_too_small_or_too_large(self, tmp_path: Path) -> None:
        touch(tmp_path, [f"{name}/{number}.png" for name in "ab" for number in range(5)])
        assert len(read(tmp_path, test_share=0.001)[1]) == 2
        assert len(read(tmp_path, test_share=0.999)[0]) == 2

    def test_a_single_image_cannot_be_split(self, tmp_path: Path) -> None:
        touch(tmp_path, ["a/1.png", "b/1.png", "b/2.png"])
        assert refusal("image_folder", tmp_path) == (
            "test_share=0.2 leaves class a (images: 1) without a test image: add images, or sort them into "
            "folders train and test"
        )

    def test_a_file_that_is_added_moves_at_most_one_other_of_its_class(self, tmp_path: Path) -> None:
        touch(tmp_path, [f"{name}/{number}.png" for name in "ab" for number in range(23)])
        sides, moved = [set(source.paths) for source in read(tmp_path)], 0
        for number in range(20):
            touch(tmp_path, [f"a/new{number}.png"])
            after = [set(source.paths) for source in read(tmp_path)]
            crossed = {path for before, now in zip(sides, reversed(after), strict=True) for path in before & now}
            assert len(crossed) <= 1
            assert all(path.startswith("a/") for path in crossed)
            sides, moved = after, moved + len(crossed)
        assert 0 < moved < 12

    def test_names_alone_decide(self, tmp_path: Path) -> None:
        names = [f"{name}/{number}.png" for name in "ab" for number in range(10)]
        one = read(touch(tmp_path / "one", names))[1]
        other = read(touch(tmp_path / "other", names[::-1], b"P5 1 1 255\n\1"))[1]
        assert one.paths == other.paths == ("a/6.png", "a/8.png", "b/2.png", "b/5.png"), "for ever"

    def test_the_old_rule_draws_as_it_did(self, tmp_path: Path) -> None:
        touch(tmp_path, [f"{name}/{file}.png" for name in "ab" for file in range(10)])
        assert sorted(read(tmp_path, test_split="per_image")[1].paths) == ["a/6.png", "b/5.png"]


def test_classes_that_are_called_nearly_the_same_are_remarked_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, [f"{name}/{n}.png" for name in ("Red fox", "cat", "red_fox") for n in range(3)])
    read(tmp_path)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"{tmp_path} has the classes Red fox and red_fox, which are called nearly the same"
    ]


def test_pictures_are_turned_where_that_is_asked_for(tmp_path: Path) -> None:
    touch(tmp_path, [f"{name}/{n}.png" for name in "ab" for n in range(3)])
    assert [source.upright for source in read(tmp_path, orientation="apply")] == [True, True]
    train, test = read(tmp_path)
    assert [train.upright, test.upright] == [False, False]
    assert train.select(torch.tensor([0]), "one").scanned == train.scanned
