"""Data sets: fixed splits, stable under added files, and one clear line when something is missing."""

from __future__ import annotations

import logging
import pickle
import re
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch

from cl_lightning.data.sources.base import ArraySource, FolderSource
from cl_lightning.data.sources.datasets import ARRAY_CHANNELS, READERS, at_hand, load_sources
from tests.data.folders import cache, refusal, touch

__all__ = ["cache"]  # a fixture that works by being here

FINE_NAMES = [f"thing {label}" for label in range(100)]


def test_data_sets_in_files_are_known_by_name(tmp_path: Path) -> None:
    touch(tmp_path, ["train/a/1.pgm", "train/b/1.pgm", "val/a/2.pgm", "val/b/2.pgm"])
    assert set(READERS) > set(ARRAY_CHANNELS)
    for name in ("digits", "image_folder"):
        train, _ = load_sources(name, tmp_path)
        assert isinstance(train, FolderSource) == (name not in ARRAY_CHANNELS)


def test_what_would_have_to_be_downloaded_is_not_at_hand(tmp_path: Path) -> None:
    assert at_hand("digits", None)
    assert at_hand("image_folder", tmp_path)
    (tmp_path / "a.npz").touch()
    assert at_hand("image_folder", tmp_path / "a.npz"), "a set may be one file"
    assert not at_hand("image_folder", tmp_path / "nowhere")
    assert not at_hand("cifar100", tmp_path)
    assert not at_hand("cifar100", None)
    (tmp_path / "cifar-100-python").mkdir()
    assert at_hand("cifar100", str(tmp_path))
    assert not at_hand("unheard_of", tmp_path)


class TestDigits:
    def test_every_fifth_image_of_a_class_is_for_testing(self) -> None:
        from sklearn.datasets import load_digits

        train, test = load_sources("digits")
        assert isinstance(train, ArraySource)
        assert isinstance(test, ArraySource)
        seen = [0] * 10
        expected: dict[str, list[tuple[int, list[int]]]] = {"train": [], "test": []}
        for values, label in zip(*load_digits(return_X_y=True), strict=True):
            seen[label] += 1
            part = "test" if seen[label] % 5 == 0 else "train"
            expected[part].append((int(label), [int(value * 255 / 16 + 0.5) for value in values]))
        for part, source in (("train", train), ("test", test)):
            assert source.name == f"digits/{part}"
            assert source.pixels.shape == (len(expected[part]), 1, 8, 8)
            assert source.labels.tolist() == [label for label, _ in expected[part]]
            difference = source.pixels.flatten(1).int() - torch.tensor([values for _, values in expected[part]]).int()
            # A half may be rounded either way.
            assert difference.abs().max() <= 1
            assert source.pixels.max() == 255
        assert train.class_names == tuple("0123456789")

    def test_test_images_can_be_left_out(self) -> None:
        assert load_sources("digits", with_test=False)[1] is None


def test_unknown_names_are_refused_with_the_allowed_ones() -> None:
    assert refusal("mnist") == (
        "name=mnist is unknown: pass name=digits, cifar100, imagenet100, imagenet1000, image_folder, "
        "aircraft, cars, cub200, flowers102, stanford_dogs, imagenet_r, tiny_imagenet"
    )
    assert refusal("flower").startswith("name=flower is unknown (did you mean flowers102?): pass name=digits, ")


@pytest.mark.parametrize("name", ["imagenet100", "imagenet1000", "image_folder"])
def test_missing_folders_are_named(name: str, tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    assert refusal(name, missing).startswith(f"root={missing} does not exist: pass root=DIR")
    assert refusal(name).startswith("root is not set: pass root=DIR")
    assert not missing.exists()


class TestCifar:
    """A fabricated CIFAR-100 of a few images: the checksums are switched off, continuum and torchvision are real."""

    @staticmethod
    def fabricate(folder: Path) -> None:
        folder.mkdir(parents=True)
        random = np.random.RandomState(0)
        for part, count in (("train", 6), ("test", 3)):
            labels = [0, 99, 42, 0, 7, 8][:count]
            table = {"data": random.randint(0, 256, (count, 3072), np.uint8), "fine_labels": labels}
            (folder / part).write_bytes(pickle.dumps(table))
        (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": FINE_NAMES}))

    @pytest.fixture
    def no_checksums(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from torchvision.datasets import CIFAR100

        monkeypatch.setattr(CIFAR100, "train_list", [["train", None]])
        monkeypatch.setattr(CIFAR100, "test_list", [["test", None]])
        monkeypatch.setattr(CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": None})

    @pytest.fixture
    def no_network(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def download(_self: object) -> None:
            raise URLError("no route to host")

        monkeypatch.setattr("torchvision.datasets.CIFAR100.download", download)

    @pytest.mark.usefixtures("no_checksums", "no_network")
    def test_present_files_are_read_without_network(self, tmp_path: Path) -> None:
        self.fabricate(tmp_path / "cifar-100-python")
        train, test = load_sources("cifar100", str(tmp_path))
        assert isinstance(train, ArraySource)
        assert isinstance(test, ArraySource)
        assert (train.name, test.name) == ("cifar100/train", "cifar100/test")
        assert train.labels.tolist() == [0, 99, 42, 0, 7, 8]
        assert test.labels.tolist() == [0, 99, 42]
        assert train.class_names == tuple(FINE_NAMES)
        # Stored as 1024 red, 1024 green and 1024 blue values, row by row.
        stored = pickle.loads((tmp_path / "cifar-100-python/train").read_bytes())["data"]
        assert torch.equal(train.pixels, torch.from_numpy(stored).view(6, 3, 32, 32))
        assert train.pixels.is_contiguous()
        assert load_sources("cifar100", tmp_path, with_test=False)[1] is None

    @pytest.mark.usefixtures("no_network")
    def test_failed_downloads_say_where_the_data_belong(self, tmp_path: Path) -> None:
        message = refusal("cifar100", tmp_path / "new")
        assert message.startswith(f"root={tmp_path / 'new'} has no cifar-100-python and the download failed")
        assert "no route to host" in message
        assert message.endswith("or pass root=DIR, where it is already")
        assert list((tmp_path / "new").iterdir()) == []

    @pytest.mark.usefixtures("no_checksums")
    def test_downloads_are_announced_and_appear_whole(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def download(dataset: object) -> None:
            assert not (tmp_path / "cifar-100-python").exists()
            self.fabricate(Path(dataset.root) / "cifar-100-python")  # type: ignore[attr-defined]

        monkeypatch.setattr("torchvision.datasets.CIFAR100.download", download)
        with caplog.at_level(logging.INFO):
            train, _ = load_sources("cifar100", tmp_path)
        assert len(train) == 6
        assert [record.getMessage() for record in caplog.records] == [f"downloading CIFAR-100 (169 MB) to {tmp_path}"]
        assert [path.name for path in tmp_path.iterdir()] == ["cifar-100-python"]

    @pytest.mark.usefixtures("no_checksums")
    def test_another_process_may_download_faster(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def download(dataset: object) -> None:
            self.fabricate(Path(dataset.root) / "cifar-100-python")  # type: ignore[attr-defined]
            self.fabricate(tmp_path / "cifar-100-python")

        monkeypatch.setattr("torchvision.datasets.CIFAR100.download", download)
        assert len(load_sources("cifar100", tmp_path)[0]) == 6
        assert [path.name for path in tmp_path.iterdir()] == ["cifar-100-python"]

    def test_damaged_files_are_refused(self, tmp_path: Path) -> None:
        self.fabricate(tmp_path / "cifar-100-python")
        assert refusal("cifar100", tmp_path).startswith(f"root={tmp_path} has a damaged cifar-100-python: remove")

    def test_root_must_be_given(self) -> None:
        assert refusal("cifar100").startswith("root is not set: pass root=DIR")


class TestImageNet:
    @pytest.mark.slow
    def test_hundred_classes_are_the_first_of_a_thousand(self, tmp_path: Path) -> None:
        wnids = [f"n{label:08d}" for label in range(1000)]
        touch(tmp_path, [f"train/{wnid}/{file}.JPEG" for wnid in wnids for file in ("b", "a")])
        touch(tmp_path, [f"val/{wnid}/v.JPEG" for wnid in wnids])
        hundred, hundred_test = load_sources("imagenet100", tmp_path)
        assert hundred.class_names == tuple(wnids[:100])
        assert hundred_test is not None
        assert hundred_test.class_names == tuple(wnids[:100])
        assert (len(hundred), len(hundred_test)) == (200, 100)
        assert hundred.key(3) == "n00000001/b.JPEG"
        assert hundred.labels.tolist() == [label for label in range(100) for _ in range(2)]
        thousand, _ = load_sources("imagenet1000", tmp_path)
        assert (len(thousand), len(thousand.class_names)) == (2000, 1000)

    def test_other_hundreds_are_remarked_on(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        wnids = ["n01440764", *(f"n0150{label:04d}" for label in range(98)), "n01855672"]
        touch(tmp_path, [f"{part}/{wnid}/a.JPEG" for wnid in wnids for part in ("train", "val")])
        load_sources("imagenet100", tmp_path)
        assert not caplog.records
        for part in ("train", "val"):
            (tmp_path / part / "n01855672").rename(tmp_path / part / "n01855673")
        load_sources("imagenet100", tmp_path)
        assert "not ImageNet's first hundred" in caplog.text

    def test_wrong_numbers_of_classes_are_refused(self, tmp_path: Path) -> None:
        touch(tmp_path, [f"{part}/n{label}/a.JPEG" for label in range(3) for part in ("train", "val")])
        assert refusal("imagenet100", tmp_path) == (
            f"root={tmp_path} has 3 class folders in train, imagenet100 needs 100 (or all 1000): "
            "pass root=DIR, or name=image_folder"
        )
        assert "imagenet1000 needs 1000: pass" in refusal("imagenet1000", tmp_path)

    def test_missing_parts_and_classes_are_named(self, tmp_path: Path) -> None:
        touch(tmp_path, [f"train/n{label:03d}/a.JPEG" for label in range(100)])
        assert "has no folder val" in refusal("imagenet100", tmp_path)
        touch(tmp_path, [f"val/n{label:03d}/a.JPEG" for label in range(99)])
        assert re.search("class folder .*val/n099 does not exist", refusal("imagenet100", tmp_path))


class TestImageFolder:
    @pytest.mark.parametrize("part", ["val", "test"])
    def test_given_parts_are_used(self, tmp_path: Path, part: str) -> None:
        touch(tmp_path, ["train/b/1.png", "train/a/2.png", "train/a/1.png", f"{part}/a/9.png", f"{part}/b/9.png"])
        train, test = load_sources("image_folder", tmp_path)
        assert test is not None
        assert [train.key(row) for row in range(3)] == ["a/1.png", "a/2.png", "b/1.png"]
        assert [test.key(row) for row in range(2)] == ["a/9.png", "b/9.png"]
        assert test.name == f"image_folder/{part}"
        assert load_sources("image_folder", tmp_path, with_test=False)[1] is None

    def test_parts_must_have_the_same_classes(self, tmp_path: Path) -> None:
        touch(tmp_path, ["train/a/1.png", "val/a/2.png", "val/b/2.png"])
        assert re.search("class folder .*val/b has no counterpart in train", refusal("image_folder", tmp_path))
        touch(tmp_path, ["train/b/1.png", "train/c/1.png"])
        assert re.search("class folder .*val/c does not exist", refusal("image_folder", tmp_path))

    def test_train_alone_is_refused(self, tmp_path: Path) -> None:
        touch(tmp_path, ["train/a/1.png"])
        assert refusal("image_folder", tmp_path).endswith(f"add one, or pass root={tmp_path}/train")

    def test_a_class_may_be_called_train(self, tmp_path: Path) -> None:
        touch(tmp_path, [f"{name}/{file}.png" for name in ("bus", "train") for file in range(40)])
        train, _ = load_sources("image_folder", tmp_path)
        assert train.class_names == ("bus", "train")

    @staticmethod
    def keys(root: Path, **options: float) -> tuple[set[str], set[str]]:
        train, test = load_sources("image_folder", root, **options)  # type: ignore[arg-type]
        assert isinstance(train, FolderSource)
        assert isinstance(test, FolderSource)
        assert train.class_names == test.class_names
        assert train.labels.unique().tolist() == test.labels.unique().tolist() == [0, 1]
        return set(train.paths), set(test.paths)

    def test_split_has_the_share_and_loses_nothing(self, tmp_path: Path) -> None:
        names = [f"{name}/{file}.png" for name in "ab" for file in range(500)]
        train, test = self.keys(touch(tmp_path, names))
        assert train | test == set(names)
        assert not train & test
        assert len(test) == 200
        _, test_of_half = self.keys(tmp_path, test_share=0.5)
        assert len(test_of_half) == 500
        assert test < test_of_half

    @pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
    def test_shares_outside_the_unit_interval_are_refused(self, tmp_path: Path, share: float) -> None:
        touch(tmp_path, ["a/1.png"])
        message = refusal("image_folder", tmp_path, test_share=share)
        assert message.startswith(f"test_share={share} is not between 0 and 1")


class TestOldSplit:
    """``data.test_split=per_image``, of runs that were begun before classes were split one by one."""

    @staticmethod
    def keys(root: Path, **options: float) -> tuple[set[str], set[str]]:
        return TestImageFolder.keys(root, test_split="per_image", **options)  # type: ignore[arg-type]

    def test_an_added_file_moves_no_other(self, tmp_path: Path) -> None:
        names = [f"{name}/{file}.png" for name in "ab" for file in range(50)]
        train, test = self.keys(touch(tmp_path, names))
        touch(tmp_path, [f"a/0{file}.png" for file in range(30)])
        train_after, test_after = self.keys(tmp_path)
        assert train < train_after
        assert test < test_after

    def test_classes_without_a_part_are_named_and_the_advice_works(self, tmp_path: Path) -> None:
        touch(tmp_path, [f"{name}/{file}.png" for name in "ab" for file in range(12)])
        for share in (0.001, 0.999):
            message = refusal("image_folder", tmp_path, test_share=share, test_split="per_image")
            missing = "test" if share < 0.5 else "training"
            assert f"test_share={share} leaves class a (images: 12) without a {missing} image" in message
            advice = re.search(r"or test_share=([\d.]+) to ([\d.]+)$", message)
            assert advice
            for good in advice.groups():
                self.keys(tmp_path, test_share=float(good))
