"""Image sources: stable keys, and pixels equal to torchvision's."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cl_lightning.core.rng import Key, uniform
from cl_lightning.data.sources.base import ArraySource, FolderSource
from cl_lightning.data.sources.decoding import random_crop


def save_noise(path: Path, width: int, height: int, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Smooth noise: bicubic resampling of it is as telling as of a photograph.
    small = np.random.RandomState(seed).randint(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path)


def one_image(path: Path) -> FolderSource:
    return FolderSource("test", path.parent.parent, (f"{path.parent.name}/{path.name}",), torch.tensor([0]), ("a",))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for seed, name in enumerate(["cat/b.png", "cat/a.JPEG", "ant/z.Png", "ant/y.bmp", "ant/x.webp"]):
        save_noise(tmp_path / name, 20, 15, seed)
    for name in ["cat/.hidden.png", "cat/notes.txt", ".cache/a.png", "ant/archive.tar.gz"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "cat/folder.png").mkdir()
    (tmp_path / "readme.png").write_bytes(b"")
    return tmp_path


class TestArraySource:
    @staticmethod
    def make() -> ArraySource:
        pixels = torch.arange(48, dtype=torch.uint8).view(4, 3, 2, 2)
        return ArraySource("toy/train", pixels, torch.tensor([0, 1, 1, 0]), ("a", "b"))

    def test_keys_are_indices(self) -> None:
        source = self.make()
        assert [source.key(row) for row in range(len(source))] == [0, 1, 2, 3]
        assert [source.row(key) for key in range(4)] == [0, 1, 2, 3]

    @pytest.mark.parametrize("key", [4, -1, "0", True])
    def test_unknown_keys_are_named(self, key: int | str) -> None:
        with pytest.raises(ValueError, match=rf"image {key!r} is not in toy/train, which holds images 0\.\.3"):
            self.make().row(key)

    def test_fingerprint_is_the_same_in_every_process_and_sees_every_pixel(self) -> None:
        source = self.make()
        content = b"(4, 3, 2, 2)" + np.array([0, 1, 1, 0]).tobytes() + bytes(range(48))
        assert source.fingerprint == hashlib.blake2b(content, digest_size=16).hexdigest()
        pixels, labels = source.pixels.clone(), source.labels.clone()
        pixels[3, 2, 1, 1] += 1
        labels[0] = 1
        others = [
            ArraySource("toy/train", pixels, source.labels, source.class_names),
            ArraySource("toy/train", source.pixels, labels, source.class_names),
            ArraySource("toy/train", source.pixels.view(4, 3, 1, 4), source.labels, source.class_names),
        ]
        assert len({source.fingerprint, *(other.fingerprint for other in others)}) == 4

    def test_fingerprint_does_not_depend_on_the_memory_layout(self) -> None:
        source = self.make()
        pixels = source.pixels.contiguous(memory_format=torch.channels_last)
        other = ArraySource("elsewhere", pixels, source.labels, source.class_names)
        assert other.fingerprint == source.fingerprint


class TestFolderSource:
    def test_lists_images_sorted_and_nothing_else(self, tree: Path) -> None:
        source = FolderSource.scan(tree, "pets")
        assert source.class_names == ("ant", "cat")
        assert source.paths == ("ant/x.webp", "ant/y.bmp", "ant/z.Png", "cat/a.JPEG", "cat/b.png")
        assert source.labels.tolist() == [0, 0, 0, 1, 1]
        assert [source.row(source.key(row)) for row in range(5)] == [0, 1, 2, 3, 4]

    def test_an_added_file_changes_no_key(self, tree: Path) -> None:
        before = FolderSource.scan(tree, "pets")
        pixels = {key: before.load_test(before.row(key), 16) for key in before.paths}
        save_noise(tree / "ant/a.png", 9, 9)
        save_noise(tree / "bee/a.png", 9, 9)
        after = FolderSource.scan(tree, "pets")
        assert len(after) == 7
        assert all(torch.equal(after.load_test(after.row(key), 16), image) for key, image in pixels.items())
        assert after.fingerprint != before.fingerprint

    def test_fingerprint_survives_a_move(self, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
        moved = tmp_path_factory.mktemp("moved") / "tree"
        shutil.copytree(tree, moved)
        assert FolderSource.scan(moved, "pets").fingerprint == FolderSource.scan(tree, "pets").fingerprint
        content = b"ant/x.webp\x000\nant/y.bmp\x000\nant/z.Png\x000\ncat/a.JPEG\x001\ncat/b.png\x001\n"
        expected = hashlib.blake2b(content, digest_size=16).hexdigest()
        assert FolderSource.scan(tree, "pets").fingerprint == expected

    def test_chosen_classes_are_numbered_as_chosen(self, tree: Path) -> None:
        source = FolderSource.scan(tree, "pets", ["cat"])
        assert source.paths == ("cat/a.JPEG", "cat/b.png")
        assert source.labels.tolist() == [0, 0]

    def test_selected_rows_keep_their_keys_and_classes(self, tree: Path) -> None:
        part = FolderSource.scan(tree, "pets").select(torch.tensor([4, 1]), "pets/part")
        assert part.paths == ("cat/b.png", "ant/y.bmp")
        assert part.labels.tolist() == [1, 0]
        assert part.row("ant/y.bmp") == 1

    def test_unknown_keys_are_named(self, tree: Path) -> None:
        with pytest.raises(ValueError, match=r"image 'ant/no\.png' is not in pets: there is no such file below"):
            FolderSource.scan(tree, "pets").row("ant/no.png")

    def test_classes_without_images_are_named(self, tree: Path) -> None:
        (tree / "dog").mkdir()
        (tree / "dog/notes.txt").write_text("none")
        with pytest.raises(ValueError, match=r"class folder .*dog holds no image"):
            FolderSource.scan(tree, "pets")
        with pytest.raises(ValueError, match=r"class folder .*eel does not exist"):
            FolderSource.scan(tree, "pets", ["ant", "eel"])

    def test_a_folder_without_classes_is_refused(self, tree: Path) -> None:
        (tree / "cat/folder.png").rmdir()
        with pytest.raises(ValueError, match="has no class folders"):
            FolderSource.scan(tree / "cat", "pets")

    def test_names_that_cannot_be_kept_are_refused(self, tree: Path) -> None:
        try:
            (tree / os.fsdecode(b"cat/\xff.png")).write_bytes(b"")
        except OSError:
            pytest.skip("this file system keeps no such name")
        with pytest.raises(ValueError, match="is not UTF-8"):
            FolderSource.scan(tree, "pets")


class TestRandomCrop:
    @staticmethod
    def slow(width: int, height: int, key: Key, position: int) -> tuple[int, int, int, int]:
        stream = key.fold("crop")
        for attempt in range(10):
            a, r, x, y = (uniform(stream, torch.tensor([position]), 4 * attempt + k).item() for k in range(4))
            area = (0.08 + 0.92 * a) * width * height
            ratio = (3 / 4) * (16 / 9) ** r
            w, h = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
            if w <= width and h <= height:
                left, top = math.floor(x * (width - w + 1)), math.floor(y * (height - h + 1))
                return left, top, left + w, top + h
        raise AssertionError("ten tries were not enough")

    def test_equals_a_slow_reference(self) -> None:
        for position in range(100):
            assert random_crop(100, 80, Key(5), position) == self.slow(100, 80, Key(5), position)

    def test_is_distributed_as_torchvisions(self) -> None:
        from scipy.stats import ks_2samp
        from torchvision.transforms import RandomResizedCrop

        width, height, count = 130, 60, 1500
        ours = np.array([random_crop(width, height, Key(0), position) for position in range(count)])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            image = torch.empty(3, height, width)
            draws = [RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]
        theirs = np.array([(left, top, left + w, top + h) for top, left, h, w in draws])
        for measure in (
            lambda box: box[:, 0],
            lambda box: box[:, 1],
            lambda box: (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]),
            lambda box: (box[:, 2] - box[:, 0]) / (box[:, 3] - box[:, 1]),
        ):
            result: Any = ks_2samp(measure(ours), measure(theirs))
            assert result.pvalue > 0.01

    @pytest.mark.parametrize(
        ("width", "height", "box"),
        # 40 * 4 / 3 = 53.3 wide, 30 * 4 / 3 = 40 high, and a line of single pixels.
        [(2000, 40, (973, 0, 1026, 40)), (30, 4000, (0, 1980, 30, 2020)), (1, 1000, (0, 499, 1, 500))],
    )
    def test_falls_back_on_the_centre(self, width: int, height: int, box: tuple[int, int, int, int]) -> None:
        assert random_crop(width, height, Key(1), 0) == box

    def test_whole_image_is_the_fallback_of_admissible_ratios(self) -> None:
        from cl_lightning.data.sources import decoding

        assert decoding.central_crop(120, 100) == (0, 0, 120, 100)
        assert decoding.central_crop(75, 100) == (0, 0, 75, 100)

    def test_draws_differ_by_position_and_key(self) -> None:
        boxes = {random_crop(200, 200, Key(seed), position) for seed in range(5) for position in range(20)}
        assert len(boxes) > 95


class TestDecoding:
    @pytest.mark.parametrize("size", [(90, 60), (61, 93), (70, 70), (64, 200), (30, 31)])
    def test_test_images_equal_torchvisions(self, tmp_path: Path, size: tuple[int, int]) -> None:
        from torchvision import transforms

        path = tmp_path / "a/x.png"
        save_noise(path, *size)
        reference: Any = transforms.Compose(
            [
                transforms.Resize(64, transforms.InterpolationMode.BICUBIC),
                transforms.CenterCrop(56),
                transforms.PILToTensor(),
            ]
        )
        with Image.open(path) as image:
            expected = reference(image.convert("RGB"))
        assert torch.equal(one_image(path).load_test(0, 56), expected)

    def test_training_images_equal_torchvisions_for_the_same_box(self, tmp_path: Path) -> None:
        from torchvision.transforms import InterpolationMode, functional

        path = tmp_path / "a/x.png"
        save_noise(path, 90, 61)
        source = one_image(path)
        for position in range(5):
            left, top, right, bottom = random_crop(90, 61, Key(2), position)
            image: Any
            with Image.open(path) as image:
                crop = functional.resized_crop(
                    image, top, left, bottom - top, right - left, [32, 32], InterpolationMode.BICUBIC
                )
            result = source.load_train(0, 32, Key(2), position)
            assert result.dtype == torch.uint8
            assert torch.equal(result, functional.pil_to_tensor(crop))

    @pytest.mark.parametrize(
        ("mode", "colour", "suffix", "expected"),
        [
            ("RGB", (10, 20, 30), "png", (10, 20, 30)),
            ("RGBA", (10, 20, 30, 7), "png", (10, 20, 30)),
            ("L", 77, "png", (77, 77, 77)),
            ("LA", (77, 5), "png", (77, 77, 77)),
            ("1", 1, "png", (255, 255, 255)),
            ("CMYK", (255, 0, 0, 0), "tif", (0, 255, 255)),
            ("I;16", 0x80FF, "png", (0x80, 0x80, 0x80)),
            ("I;16", 0x80FF, "tif", (0x80, 0x80, 0x80)),
        ],
    )
    def test_every_colour_mode_becomes_rgb(
        self, tmp_path: Path, mode: str, colour: int | tuple[int, ...], suffix: str, expected: tuple[int, ...]
    ) -> None:
        path = tmp_path / f"a/x.{suffix}"
        path.parent.mkdir()
        Image.new(mode, (12, 9), colour).save(path)
        image = one_image(path).load_test(0, 7)
        assert image.shape == (3, 7, 7)
        assert (image == torch.tensor(expected).view(3, 1, 1)).all()

    @pytest.mark.filterwarnings("error")
    def test_palettes_become_their_colours(self, tmp_path: Path) -> None:
        path = tmp_path / "a/x.png"
        path.parent.mkdir()
        image = Image.new("P", (12, 9), 1)
        image.putpalette([0, 0, 0, 40, 50, 60])
        image.save(path, transparency=bytes([0, 128]))
        assert (one_image(path).load_test(0, 7) == torch.tensor([40, 50, 60]).view(3, 1, 1)).all()

    def test_pixels_without_a_range_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a/x.tif"
        path.parent.mkdir()
        Image.new("F", (12, 9), 0.5).save(path)
        with pytest.raises(ValueError, match=r"x\.tif cannot be read as an image \(pixels of mode F"):
            one_image(path).load_test(0, 7)

    @pytest.mark.parametrize("kept", [0, 10, 100, 300])
    @pytest.mark.parametrize("suffix", ["png", "jpg"])
    def test_broken_files_are_named(self, tmp_path: Path, kept: int, suffix: str) -> None:
        path = tmp_path / f"a/x.{suffix}"
        save_noise(path, 60, 40)
        whole = path.read_bytes()
        assert len(whole) > 400
        path.write_bytes(whole[:kept])
        for load in (
            lambda source: source.load_test(0, 8),
            lambda source: source.load_train(0, 8, Key(0), 0),
        ):
            with pytest.raises(ValueError, match=rf"{path} cannot be read as an image") as refusal:
                load(one_image(path))
            assert "\n" not in str(refusal.value)
