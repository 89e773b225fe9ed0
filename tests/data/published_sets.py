"""Published sets in their authors' layouts, made up in miniature: two classes, two training and two test images each
but for ImageNet-R, whose images have no part of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

BIRDS = [
    ("001.Albatross/a.jpg", 1, 1),
    ("001.Albatross/b.jpg", 1, 0),
    ("002.Wren/c.jpg", 2, 0),
    ("002.Wren/d.jpg", 2, 1),
]
TERRIER, PUG = "n02085620-Terrier", "n02086240-Pug"
GOLDFISH, SHARK = "n01443537", "n01484850"
RENDITIONS = [
    f"{wnid}/{kind}_{number}.jpg" for wnid in (GOLDFISH, SHARK) for kind in ("art", "toy") for number in range(4)
]
COLOURS = ((200, 10, 10), (10, 10, 200))


def picture(file: Path, label: int = 0, side: int = 8) -> None:
    """Make a picture of one of two colours; pictures of a class differ in a pixel."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (side, side - 1), COLOURS[label % 2])
    image.putpixel((0, 0), tuple(sum(map(ord, file.name)) * factor % 256 for factor in (7, 11, 13)))
    image.save(file, format="PNG")  # exact


def birds(root: Path, rows: Sequence[tuple[str, int, int]] = BIRDS) -> None:
    top = root / "CUB_200_2011"
    for path, number, _ in rows:
        if "\0" not in path:
            picture(top / "images" / path, number - 1)
    for column, name in enumerate(("images", "image_class_labels", "train_test_split")):
        lines = [f"{number} {row[column]}\n" for number, row in enumerate(rows, start=1)]
        (top / f"{name}.txt").write_text("".join(lines))


def aircraft(root: Path) -> None:
    data = root / "fgvc-aircraft-2013b" / "data"
    lines = {"trainval": ["0002 F/A-18", "0001 Boeing 737-700"], "test": ["0003 Boeing 737-700", "0004 F/A-18"]}
    for part, images in lines.items():
        for line in images:
            picture(data / "images" / f"{line[:4]}.jpg", int("F/A" in line))
        (data / f"images_variant_{part}.txt").write_text("\n".join(images) + "\n")
    (data / "variants.txt").write_text("Boeing 737-700\nF/A-18\n")


def cars(root: Path) -> None:
    top = root / "stanford_cars"
    (top / "devkit").mkdir(parents=True)
    savemat(top / "devkit" / "cars_meta.mat", {"class_names": np.array(["Audi TT 2011", "BMW X5 2007"], dtype=object)})
    for part, index in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        names = [f"0000{number}.jpg" for number in (1, 2)]
        for name, label in zip(names, (1, 0), strict=True):
            picture(top / f"cars_{part}" / name, label)
        rows = np.array(
            [(name, label) for name, label in zip(names, (2, 1), strict=True)], [("fname", "O"), ("class", "O")]
        )
        savemat(top / index, {"annotations": rows})


def flowers(
    root: Path, labels: Sequence[int] = (1, 1, 2, 2, 1, 2), split: tuple[list[int], list[int], list[int]] | None = None
) -> None:
    """Make six images; first those of ``trnid``, then of ``valid``, then of ``tstid``."""
    top = root / "flowers-102"
    for number, label in enumerate(labels, start=1):
        picture(top / "jpg" / f"image_{number:05}.jpg", label - 1)
    savemat(top / "imagelabels.mat", {"labels": np.array([labels], np.uint8)})
    parts = dict(zip(("trnid", "valid", "tstid"), split or ([4, 1], [2, 3], [6, 5]), strict=True))
    savemat(top / "setid.mat", {name: np.array([numbers], np.uint16) for name, numbers in parts.items()})


def dogs_list(file: Path, files: Sequence[str], labels: Sequence[int]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cells = np.empty((len(files), 1), object)
    cells[:, 0] = list(files)
    annotations = cells.copy()
    savemat(file, {"file_list": cells, "annotation_list": annotations, "labels": np.array([labels], np.uint8).T})


def dogs(root: Path, lists: str = "") -> None:
    top = root / "stanford_dogs"
    parts = {"train": [f"{PUG}/p_1.jpg", f"{TERRIER}/t_1.jpg"], "test": [f"{TERRIER}/t_2.jpg", f"{PUG}/p_2.jpg"]}
    for part, files in parts.items():
        labels = [1 if file.startswith(TERRIER) else 2 for file in files]
        for file, label in zip(files, labels, strict=True):
            picture(top / "Images" / file, label - 1)
        dogs_list(top / lists / f"{part}_list.mat", files, labels)


def tiny(root: Path, form: str = "val/images/{file}", *, annotated: bool = True, each: int = 2, side: int = 8) -> None:
    """Make Tiny-ImageNet, with ``each`` training and test images a class; test images lie as ``form`` says."""
    top = root / "tiny-imagenet-200"
    lines = []
    for label, wnid in enumerate((GOLDFISH, SHARK)):
        for number in range(each):
            picture(top / f"train/{wnid}/images/{wnid}_{number}.JPEG", label, side)
            file = f"val_{2 * number + label}.JPEG"
            picture(top / form.format(file=file, wnid=wnid), label, side)
            lines.append(f"{file}\t{wnid}\t0\t1\t2\t3\n")
        (top / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
    (top / "wnids.txt").write_text(f"{SHARK}\n{GOLDFISH}\n")
    (top / "words.txt").write_text(
        f"n00001740\tentity\n{GOLDFISH}\tgoldfish, Carassius auratus\n{SHARK}\tshark, fish\n"
    )
    if annotated:
        (top / "val" / "val_annotations.txt").write_text("".join(lines))
    picture(top / "test" / "images" / "test_0.JPEG", 0, side)


def renditions(root: Path, files: Sequence[str] = RENDITIONS) -> None:
    top = root / "imagenet-r"
    for file in files:
        picture(top / file, int(file.startswith(SHARK)))
    (top / "README.txt").write_text("ImageNet-R")


MAKE = {
    "aircraft": aircraft,
    "cars": cars,
    "cub200": birds,
    "flowers102": flowers,
    "imagenet_r": renditions,
    "stanford_dogs": dogs,
    "tiny_imagenet": tiny,
}
"""Name of a set -> function that makes it below a root."""
