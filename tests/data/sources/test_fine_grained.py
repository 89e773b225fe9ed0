"""Fine-grained sets in their authors' layouts, made up in miniature."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from cl_lightning.data.sources.base import FolderSource
from cl_lightning.data.sources.datasets import at_hand, load_sources
from cl_lightning.data.sources.fine_grained import FOLDERS

SETS = sorted(FOLDERS)


def picture(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 5), (200, 10, 10)).save(file)


def birds(root: Path) -> None:
    top = root / "CUB_200_2011"
    rows = [
        ("001.Albatross/a.jpg", 1, 1),
        ("001.Albatross/b.jpg", 1, 0),
        ("002.Wren/c.jpg", 2, 0),
        ("002.Wren/d.jpg", 2, 1),
    ]
    for path, _, _ in rows:
        picture(top / "images" / path)
    for column, name in enumerate(("images", "image_class_labels", "train_test_split")):
        lines = [f"{number} {row[column]}\n" for number, row in enumerate(rows, start=1)]
        (top / f"{name}.txt").write_text("".join(lines))


def aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    lines = {"trainval": ["0002 F/A-18", "0001 Boeing 737-700"], "test": ["0003 Boeing 737-700", "0004 F/A-18"]}
    for part, images in lines.items():
        for line in images:
            picture(data / "images" / f"{line[:4]}.jpg")
        (data / f"images_variant_{part}.txt").write_text("\n".join(images) + "\n")
    (data / "variants.txt").write_text("Boeing 737-700\nF/A-18\n")


def cars(root: Path) -> None:
    top = root / "stanford_cars"
    (top / "devkit").mkdir(parents=True)
    savemat(top / "devkit" / "cars_meta.mat", {"class_names": np.array(["Audi TT 2011", "BMW X5 2007"], dtype=object)})
    for part, index in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        names = [f"0000{number}.jpg" for number in (1, 2)]
        for name in names:
            picture(top / f"cars_{part}" / name)
        rows = np.array(
            [(name, label) for name, label in zip(names, (2, 1), strict=True)], [("fname", "O"), ("class", "O")]
        )
        savemat(top / index, {"annotations": rows})


MAKE = {"cub200": birds, "aircraft": aircraft, "cars": cars}
TRAIN = {
    "cub200": {"images/001.Albatross/a.jpg": "001.Albatross", "images/002.Wren/d.jpg": "002.Wren"},
    "aircraft": {"data/images/0002.jpg": "F/A-18", "data/images/0001.jpg": "Boeing 737-700"},
    "cars": {"cars_train/00001.jpg": "BMW X5 2007", "cars_train/00002.jpg": "Audi TT 2011"},
}
TEST = {
    "cub200": {"images/001.Albatross/b.jpg": "001.Albatross", "images/002.Wren/c.jpg": "002.Wren"},
    "aircraft": {"data/images/0003.jpg": "Boeing 737-700", "data/images/0004.jpg": "F/A-18"},
    "cars": {"cars_test/00001.jpg": "BMW X5 2007", "cars_test/00002.jpg": "Audi TT 2011"},
}


def classes(source: FolderSource) -> dict[str, str]:
    return {path: source.class_names[label] for path, label in zip(source.paths, source.labels.tolist(), strict=True)}


@pytest.mark.parametrize("name", SETS)
def test_files_and_classes_are_those_of_the_index(name: str, tmp_path: Path) -> None:
    assert not at_hand(name, tmp_path)
    MAKE[name](tmp_path)
    assert at_hand(name, tmp_path)
    train, test = load_sources(name, tmp_path)
    assert isinstance(train, FolderSource)
    assert isinstance(test, FolderSource)
    assert (classes(train), classes(test)) == (TRAIN[name], TEST[name])
    assert train.class_names == test.class_names == tuple(sorted(train.class_names))
    assert train.load_test(0, 4).shape == (3, 4, 4)
    assert load_sources(name, tmp_path, with_test=False)[1] is None


@pytest.mark.parametrize("name", SETS)
def test_what_is_not_there_is_reported_and_never_downloaded(name: str, tmp_path: Path) -> None:
    where = f"pass root=DIR, where DIR/{FOLDERS[name]} holds "
    with pytest.raises(ValueError, match=re.escape(f"root is not set: {where}")):
        load_sources(name)
    with pytest.raises(ValueError, match=re.escape(f"root={tmp_path} has no {FOLDERS[name]}: {where}")):
        load_sources(name, tmp_path)
    (tmp_path / FOLDERS[name]).mkdir()
    with pytest.raises(ValueError, match=re.escape(f"root={tmp_path} has a {FOLDERS[name]} that is not whole (")):
        load_sources(name, tmp_path)


def test_a_picture_that_is_missing_is_named(tmp_path: Path) -> None:
    birds(tmp_path)
    (tmp_path / "CUB_200_2011/images/002.Wren/c.jpg").unlink()
    with pytest.raises(ValueError, match=r"c\.jpg \(No such file or directory\)"):
        load_sources("cub200", tmp_path)
