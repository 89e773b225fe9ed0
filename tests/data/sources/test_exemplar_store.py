"""Remembered images as files of their own: the same pixels under the same keys, and nothing that was altered."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.data.sources.base import ArraySource, FolderSource
from cl_lightning.data.sources.exemplar_reading import read_exemplar_store
from cl_lightning.data.sources.exemplar_store import INDEX, ExemplarStore, write_kept

NAMES = ("ant", "bee", "cow")
LABELS = torch.tensor([0, 2, 1, 2])


@pytest.fixture
def arrays() -> ExemplarStore:
    pixels = rng.integers(Key(0), torch.arange(4 * 3 * 5 * 5), 256).to(torch.uint8).view(4, 3, 5, 5)
    source = ArraySource("toy/train", pixels, LABELS, NAMES, (7, "+2/cow/1.png", 3, 0))
    return ExemplarStore(source, (2, 1), 5, 3, ("first", "second"))


@pytest.fixture
def files(tmp_path: Path) -> ExemplarStore:
    noise, paths = np.random.RandomState(0), ("ant/1.JPG", "cow/../x.png", "bee/1.jpg", "cow/2.bmp")
    (tmp_path / "pictures").mkdir()
    for number, path in enumerate(paths):
        name = f"{number}{Path(path).suffix}"
        Image.fromarray(noise.randint(0, 256, (20, 30 + number, 3), np.uint8)).save(tmp_path / "pictures" / name)
    places = tuple(f"{number}{Path(path).suffix}" for number, path in enumerate(paths))
    return ExemplarStore(
        FolderSource("toy", tmp_path / "pictures", places, LABELS, NAMES, paths), (2, 1), 16, 3, ("first",)
    )


def test_arrays_come_back_as_they_were(arrays: ExemplarStore, tmp_path: Path) -> None:
    write_kept(tmp_path / "run" / "exemplars", arrays)
    again = read_exemplar_store(tmp_path / "run" / "exemplars")
    assert isinstance(again.source, ArraySource)
    assert isinstance(arrays.source, ArraySource)
    assert torch.equal(again.source.pixels, arrays.source.pixels)
    assert again.source.fingerprint == arrays.source.fingerprint
    assert [again.source.row(key) for key in (7, "+2/cow/1.png", 3, 0)] == [0, 1, 2, 3]
    assert (again.sizes, again.image_size, again.channels, again.fingerprints) == ((2, 1), 5, 3, ("first", "second"))
    assert again.source.class_names == NAMES
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["exemplars"]


def test_what_pixels_were_made_from_comes_back(arrays: ExemplarStore, tmp_path: Path) -> None:
    digests = torch.arange(4 * 16, dtype=torch.uint8).view(4, 16)
    identity = {"train": {"digest": "aa", "images": {"ant": 3}}, "test": {"digest": "bb", "images": {"ant": 1}}}
    kept = dataclasses.replace(
        arrays, source=dataclasses.replace(arrays.source, digests=digests), identities=(identity, None)
    )
    write_kept(tmp_path / "exemplars", kept)
    again = read_exemplar_store(tmp_path / "exemplars")
    assert torch.equal(again.source.contents, digests)
    assert again.identities == (identity, None)


def test_files_of_earlier_versions_lack_it(arrays: ExemplarStore, tmp_path: Path) -> None:
    write_kept(tmp_path / "exemplars", arrays)
    index = json.loads((tmp_path / "exemplars" / INDEX).read_text())
    digests = index.pop("digests")
    del index["identities"]
    (tmp_path / "exemplars" / INDEX).write_text(json.dumps(index))
    again = read_exemplar_store(tmp_path / "exemplars")
    assert again.identities == (None, None)
    assert torch.equal(again.source.contents, arrays.source.contents)
    for spoilt in (
        {"digests": digests[1:]},
        {"digests": ["00"] * 4},
        {"identities": [1, None]},
        {"identities": [None]},
    ):
        (tmp_path / "exemplars" / INDEX).write_text(json.dumps({**index, **spoilt}))
        with pytest.raises(ValueError, match="is damaged"):
            read_exemplar_store(tmp_path / "exemplars")


def test_files_come_back_byte_for_byte_whatever_their_keys_are(files: ExemplarStore, tmp_path: Path) -> None:
    write_kept(tmp_path / "exemplars", files)
    again = read_exemplar_store(tmp_path / "exemplars")
    assert isinstance(again.source, FolderSource)
    assert isinstance(files.source, FolderSource)
    assert sorted(path.name for path in (tmp_path / "exemplars" / "files").iterdir()) == [
        "000000.jpg", "000001.png", "000002.jpg", "000003.bmp"
    ]  # fmt: skip
    for row, key in enumerate(("ant/1.JPG", "cow/../x.png", "bee/1.jpg", "cow/2.bmp")):
        assert again.source.row(key) == row
        old, new = files.source.root / files.source.paths[row], again.source.root / again.source.paths[row]
        assert new.read_bytes() == old.read_bytes()
        crops = [source.load_train(row, 16, Key(1), 5) for source in (files.source, again.source)]
        assert torch.equal(*crops), "training sees the same"


def test_what_is_held_is_listed_by_key_and_label(arrays: ExemplarStore) -> None:
    assert arrays.holds({7: 0, "+2/cow/1.png": 2})
    assert not arrays.holds({7: 1}), "another class"
    assert not arrays.holds({8: 0}), "another image"
    assert arrays.holds({}), "nothing is always there"


def test_a_memory_without_images_can_be_kept(arrays: ExemplarStore, tmp_path: Path) -> None:
    source = ArraySource("none", torch.empty(0, 1, 8, 8, dtype=torch.uint8), torch.empty(0).long(), NAMES, ())
    write_kept(tmp_path / "exemplars", ExemplarStore(source, (3,), 8, 1, ("first",)))
    again = read_exemplar_store(tmp_path / "exemplars")
    assert (len(again.source), again.source.class_names) == (0, NAMES)


def change(folder: Path, **values: object) -> None:
    index = json.loads((folder / INDEX).read_text())
    (folder / INDEX).write_text(json.dumps({**index, **values}))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"format": 9}, "format 9, this program reads format 1"),
        ({"files": ["../1.png"] * 4}, "damaged"),
        ({"files": ["000000.png", "nowhere.png", "a.png", "b.png"]}, "damaged"),
        ({"labels": [0, 1, 2, 3]}, "damaged"),
        ({"keys": [1, 1, 2, 3]}, "damaged"),
        ({"keys": [1, 2.5, 3, 4]}, "damaged"),
        ({"image_size": 6}, "damaged"),
        ({"tasks": [2]}, "damaged"),
    ],
)
def test_what_was_not_written_is_refused(
    arrays: ExemplarStore, tmp_path: Path, values: dict[str, object], told: str
) -> None:
    write_kept(tmp_path / "exemplars", arrays)
    change(tmp_path / "exemplars", **values)
    with pytest.raises(ValueError, match=told):
        read_exemplar_store(tmp_path / "exemplars")


def test_torn_pixels_are_refused(arrays: ExemplarStore, tmp_path: Path) -> None:
    write_kept(tmp_path / "exemplars", arrays)
    pixels = tmp_path / "exemplars" / "pixels.safetensors"
    pixels.write_bytes(pixels.read_bytes()[:-9])
    with pytest.raises(ValueError, match="damaged"):
        read_exemplar_store(tmp_path / "exemplars")


def test_a_failed_write_leaves_no_folder(files: ExemplarStore, tmp_path: Path) -> None:
    assert isinstance(files.source, FolderSource)
    (files.source.root / files.source.paths[2]).unlink()
    with pytest.raises(FileNotFoundError):
        write_kept(tmp_path / "exemplars", files)
    assert not (tmp_path / "exemplars").exists()


def test_files_without_a_known_suffix_and_how_they_are_turned_are_kept(files: ExemplarStore, tmp_path: Path) -> None:
    source = files.source
    assert isinstance(source, FolderSource)
    (source.root / "0.jpg_large").write_bytes((source.root / source.paths[0]).read_bytes())
    (source.root / "plain").write_bytes((source.root / source.paths[1]).read_bytes())
    odd = dataclasses.replace(source, paths=("0.jpg_large", "plain", *source.paths[2:]), upright=True)
    write_kept(tmp_path / "exemplars", dataclasses.replace(files, source=odd))
    again = read_exemplar_store(tmp_path / "exemplars").source
    assert isinstance(again, FolderSource)
    assert again.paths == ("files/000000", "files/000001", "files/000002.jpg", "files/000003.bmp")
    assert again.upright
    assert torch.equal(again.load_test(0, 16), source.load_test(0, 16))


def test_images_that_were_kept_before_there_was_a_choice_are_not_turned(files: ExemplarStore, tmp_path: Path) -> None:
    write_kept(tmp_path / "exemplars", files)
    index = json.loads((tmp_path / "exemplars" / INDEX).read_text())
    del index["upright"]
    (tmp_path / "exemplars" / INDEX).write_text(json.dumps(index))
    again = read_exemplar_store(tmp_path / "exemplars").source
    assert isinstance(again, FolderSource)
    assert not again.upright
