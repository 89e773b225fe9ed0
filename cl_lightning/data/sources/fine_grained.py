"""Fine-grained data sets: birds, cars, aircraft, flowers, dogs, each in the folders and index files that its authors
published.

torchvision reads the index files of cars and aircraft; the others are short tables and lists.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cl_lightning.data.sources.mat_files import MatFile
from cl_lightning.data.sources.published import DamagedError, Listing, PublishedSet, lines_of, require


def _aircraft(top: Path, train: bool) -> Listing:
    """Read FGVC-Aircraft (Maji et al. 2013): 100 variants; trained on are its authors' training and validation
    parts.
    """
    from torchvision.datasets import FGVCAircraft

    part = "trainval" if train else "test"
    index = f"data/images_variant_{part}.txt"
    require(top / "data" / "images", top / "data" / "variants.txt", top / index)
    data = FGVCAircraft(str(top.parent), split=part, annotation_level="variant")
    return Listing(index, _below(top, data._image_files), data._labels, data.classes)


def _cars(top: Path, train: bool) -> Listing:
    """Read Stanford Cars (Krause et al. 2013): 196 models."""
    from torchvision.datasets import StanfordCars

    part, index = ("train", "devkit/cars_train_annos.mat") if train else ("test", "cars_test_annos_withlabels.mat")
    require(top / "devkit" / "cars_meta.mat", top / index, top / f"cars_{part}")
    data = StanfordCars(str(top.parent), split=part)
    files, labels = zip(*data._samples, strict=True)
    return Listing(index, _below(top, files), [int(label) for label in labels], data.classes)


def _cub200(top: Path, train: bool) -> Listing:
    """Read CUB-200-2011 (Wah et al. 2011): 200 birds, named as their folders are."""
    paths, labels, split = (
        _table(top / f"{file}.txt") for file in ("images", "image_class_labels", "train_test_split")
    )
    for table, file in ((labels, "image_class_labels.txt"), (split, "train_test_split.txt")):
        if missing := next((image for image in paths if image not in table), None):
            raise DamagedError(top / file, f"has no line for image {missing}")
    names = {int(labels[image]): path.partition("/")[0] for image, path in paths.items()}
    chosen = [image for image in paths if (split[image] == "1") == train]
    label_of = {number: label for label, number in enumerate(sorted(names))}
    return Listing(
        "images.txt",
        [f"images/{paths[image]}" for image in chosen],
        [label_of[int(labels[image])] for image in chosen],
        [names[number] for number in sorted(names)],
    )


def _flowers102(top: Path, train: bool) -> Listing:
    """Read Oxford Flowers 102 (Nilsback & Zisserman 2008): flowers that its files number, 1 to 102.

    Trained on are its authors' training and validation parts, ten images of each class each, as is usual for transfer;
    the much larger test part is the one to test on.
    """
    split, labels = MatFile(top / "setid.mat"), MatFile(top / "imagelabels.mat").numbers("labels")
    require(top / "jpg")
    numbers = split.numbers("trnid") + split.numbers("valid") if train else split.numbers("tstid")
    for number in numbers:
        if not 1 <= number <= len(labels):
            raise DamagedError(top / "setid.mat", f"lists image {number}, imagelabels.mat has 1 to {len(labels)}")
    classes = sorted(set(labels))
    label_of = {own: label for label, own in enumerate(classes)}
    paths = [f"jpg/image_{number:05}.jpg" for number in numbers]
    return Listing("setid.mat", paths, [label_of[labels[number - 1]] for number in numbers], list(map(str, classes)))


def _stanford_dogs(top: Path, train: bool) -> Listing:
    """Read Stanford Dogs (Khosla et al. 2011): 120 breeds, named as their folders are."""
    require(top / "Images")
    index, files, numbers = _dogs(top, "train_list.mat")
    names: dict[int, str] = {}
    for file, number in zip(files, numbers, strict=True):
        name = file.partition("/")[0]
        if names.setdefault(number, name) != name:
            raise DamagedError(index, f"has {names[number]} and {name} as class {number}")
    if not train:
        index, files, numbers = _dogs(top, "test_list.mat")
        if unknown := next((number for number in numbers if number not in names), None):
            raise DamagedError(index, f"has class {unknown}, train_list.mat has none of it")
    label_of = {number: label for label, number in enumerate(sorted(names))}
    return Listing(
        index.relative_to(top).as_posix(),
        [f"Images/{file}" for file in files],
        [label_of[number] for number in numbers],
        [names[number] for number in sorted(names)],
    )


def _dogs(top: Path, name: str) -> tuple[Path, list[str], list[int]]:
    """Return the file of a list, wherever it was unpacked, with its images and their classes' numbers."""
    index = next((place / name for place in (top, top / "lists") if (place / name).exists()), top / name)
    table = MatFile(index)
    files, numbers = table.texts("file_list"), table.numbers("labels")
    if len(files) != len(numbers):
        raise DamagedError(index, f"has {len(files)} files and {len(numbers)} labels")
    return index, files, numbers


def _table(file: Path) -> dict[str, str]:
    """Return number of an image -> the rest of its line."""
    return {number: value for number, _, value in (line.partition(" ") for line in lines_of(file) if line)}


def _below(top: Path, files: Sequence[str | Path]) -> list[str]:
    return [Path(os.path.relpath(file, top)).as_posix() for file in files]


SETS = {
    "aircraft": PublishedSet(
        "fgvc-aircraft-2013b",
        "data/images, data/variants.txt, data/images_variant_{trainval,test}.txt",
        "data/variants.txt",
        "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
        _aircraft,
    ),
    "cars": PublishedSet(
        "stanford_cars",
        "cars_train, cars_test, devkit/{cars_meta,cars_train_annos}.mat, cars_test_annos_withlabels.mat",
        "devkit/cars_meta.mat",
        "https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
        _cars,
    ),
    "cub200": PublishedSet(
        "CUB_200_2011",
        "images, images.txt, image_class_labels.txt, train_test_split.txt",
        "train_test_split.txt",
        "https://www.vision.caltech.edu/datasets/cub_200_2011/",
        _cub200,
    ),
    "flowers102": PublishedSet(
        "flowers-102",
        "jpg, imagelabels.mat, setid.mat",
        "jpg/image_*.jpg",
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        _flowers102,
    ),
    "stanford_dogs": PublishedSet(
        "stanford_dogs",
        "Images, and train_list.mat and test_list.mat beside it or in lists",
        "Images/n*-*",
        "http://vision.stanford.edu/aditya86/ImageNetDogs/",
        _stanford_dogs,
    ),
}
"""Fine-grained sets by name."""
