"""Fine-grained data sets: birds, cars, aircraft, each in the folders and index files that its authors published.

Nothing is downloaded. torchvision reads the index files of cars and aircraft; those of the birds are three short
tables. The results are paths and labels.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from cl_lightning.core.errors import NOT_GIVEN, InvalidSettingError
from cl_lightning.data.sources.base import FolderSource
from cl_lightning.data.sources.read_options import Reading

FOLDERS = {"aircraft": "fgvc-aircraft-2013b", "cars": "stanford_cars", "cub200": "CUB_200_2011"}
"""Folder of each set below the root."""

_INSIDE = {
    "aircraft": "data/images, data/variants.txt, data/images_variant_{trainval,test}.txt",
    "cars": "cars_train, cars_test, devkit/{cars_meta,cars_train_annos}.mat, cars_test_annos_withlabels.mat",
    "cub200": "images, images.txt, image_class_labels.txt, train_test_split.txt",
}

Reader = Callable[[Path | None, bool, Reading], tuple[FolderSource, FolderSource | None]]
_Read = Callable[[Path, bool], tuple[Sequence[str], Sequence[int], Sequence[str]]]
"""Function of a root and a flag for training: paths of files, labels, names of classes."""


def reader(name: str) -> Reader:
    """Return the reader of the set of this name from ``root/<its folder>`` (``FOLDERS``): training and test images."""

    def read(root: Path | None, with_test: bool, _reading: Reading) -> tuple[FolderSource, FolderSource | None]:
        train = _part(name, root, train=True)
        return train, _part(name, root, train=False) if with_test else None

    return read


def _part(name: str, root: Path | None, *, train: bool) -> FolderSource:
    wanted = f"DIR, where DIR/{FOLDERS[name]} holds {_INSIDE[name]}"
    if root is None:
        raise InvalidSettingError("root", NOT_GIVEN, "is not set", wanted)
    top = root / FOLDERS[name]
    if not top.is_dir():
        raise InvalidSettingError("root", root, f"has no {FOLDERS[name]}", wanted)
    try:
        files, labels, class_names = _READ[name](root, train)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        reason = f"has a {FOLDERS[name]} that is not whole ({reason})"
        raise InvalidSettingError("root", root, reason, wanted) from error
    paths = tuple(Path(os.path.relpath(file, top)).as_posix() for file in files)
    return FolderSource(
        f"{name}/{'train' if train else 'test'}",
        top,
        paths,
        torch.tensor(labels, dtype=torch.int64),
        tuple(class_names),
    )


def _aircraft(root: Path, train: bool) -> tuple[Sequence[str], Sequence[int], Sequence[str]]:
    """Read FGVC-Aircraft (Maji et al. 2013): 100 variants; trained on are its authors' training and validation
    parts.
    """
    from torchvision.datasets import FGVCAircraft

    data = FGVCAircraft(str(root), split="trainval" if train else "test", annotation_level="variant")
    return data._image_files, data._labels, data.classes


def _cars(root: Path, train: bool) -> tuple[Sequence[str], Sequence[int], Sequence[str]]:
    """Read Stanford Cars (Krause et al. 2013): 196 models."""
    from torchvision.datasets import StanfordCars

    data = StanfordCars(str(root), split="train" if train else "test")
    files, labels = zip(*data._samples, strict=True)
    return files, [int(label) for label in labels], data.classes


def _cub200(root: Path, train: bool) -> tuple[Sequence[str], Sequence[int], Sequence[str]]:
    """Read CUB-200-2011 (Wah et al. 2011): 200 birds, named as their folders are."""
    index = root / FOLDERS["cub200"]
    paths, labels, split = (
        _table(index / f"{file}.txt") for file in ("images", "image_class_labels", "train_test_split")
    )
    names = {int(labels[image]): path.partition("/")[0] for image, path in paths.items()}
    chosen = [image for image in paths if (split[image] == "1") == train]
    label_of = {number: label for label, number in enumerate(sorted(names))}
    return (
        [str(index / "images" / paths[image]) for image in chosen],
        [label_of[int(labels[image])] for image in chosen],
        [names[number] for number in sorted(names)],
    )


def _table(file: Path) -> dict[str, str]:
    """Return number of an image -> the rest of its line."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return {number: value for number, _, value in (line.partition(" ") for line in lines if line)}


_READ: dict[str, _Read] = {"aircraft": _aircraft, "cars": _cars, "cub200": _cub200}
