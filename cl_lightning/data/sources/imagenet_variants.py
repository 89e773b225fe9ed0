"""Variants of ImageNet with two hundred classes, in the folders that their authors published: Tiny-ImageNet and
ImageNet-R.

ImageNet-R has no official split. Ours is a function of each image's path alone: neither the machine nor the other files
have a say in it. Others have drawn other splits, and a number on one says nothing about a number on another.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cl_lightning.data.sources.class_folders import ANY, class_folders, class_images
from cl_lightning.data.sources.published import DamagedError, Listing, PublishedSet, lines_of, require
from cl_lightning.data.sources.skipped_files import Aside
from cl_lightning.data.sources.unicode_names import nfc

log = logging.getLogger(__name__)

_CLASSES = 200
_WNID = re.compile(r"n\d{8}")
"""Name of a class's folder: its number in WordNet."""
_FIRST = "n01443537"
"""First class of ImageNet-R."""
_ANNOTATIONS = "val/val_annotations.txt"
_BESIDE = "folders beside the classes"


# ---- Tiny-ImageNet -----------------------------------------------------------------------------------------------


def _tiny_imagenet(top: Path, train: bool) -> Listing:
    """Read Tiny-ImageNet (Stanford's CS231n, 2015): 200 classes in the order of their WordNet numbers, named by the
    first word that ``words.txt`` has for them. Tested on is ``val``: ``test`` has no labels.
    """
    wnids = sorted({line.strip() for line in lines_of(top / "wnids.txt")} - {""})
    if not wnids:
        raise DamagedError(top / "wnids.txt", "lists no class")
    names = _names(top / "words.txt", wnids)
    if train:
        _warn_of_a_part(top, len(wnids))
        return _tiny_train(top, wnids, names)
    rows = _annotated(top, wnids) if (top / _ANNOTATIONS).exists() else _sorted_into_folders(top, wnids)
    rows.sort()  # by key: the same images in the same order, however they were unpacked
    keys, paths, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Listing(_ANNOTATIONS, paths, labels, names, keys)


def _tiny_train(top: Path, wnids: Sequence[str], names: Sequence[str]) -> Listing:
    aside = Aside()
    for name in class_folders(top / "train", ANY, aside, "train/"):
        if name not in wnids:
            aside.add(_BESIDE, f"train/{name}")
    paths: list[str] = []
    labels: list[int] = []
    keys: list[str] = []
    for label, wnid in enumerate(wnids):
        found = class_images(top, _class_folder(top, "train", wnid), ANY, aside)
        paths += found
        labels += [label] * len(found)
        keys += [f"train/{wnid}/images/{nfc(_file(path))}" for path in found]
    aside.log(top)
    return Listing("train", paths, labels, names, keys, aside.kinds())


def _annotated(top: Path, wnids: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return key, path and label of each image that the annotations list, whether the images lie in one folder, as
    published, or were sorted into class folders since.
    """
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    folders = {wnid: _sorted_folder(top, "val", wnid) or "val/images" for wnid in wnids}
    rows: list[tuple[str, str, int]] = []
    for number, line in enumerate(lines_of(top / _ANNOTATIONS), start=1):
        if not line.strip():
            continue
        file, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0].strip()
        if wnid not in label_of:
            reason = f"says in line {number} that {file} is of class {wnid or 'nothing'}, which wnids.txt does not list"
            raise DamagedError(top / _ANNOTATIONS, reason)
        rows.append((f"val/images/{nfc(file)}", f"{folders[wnid]}/{file}", label_of[wnid]))
    return rows


def _sorted_into_folders(top: Path, wnids: Sequence[str]) -> list[tuple[str, str, int]]:
    """Return key, path and label of each image of ``val`` where class folders took the place of the annotations."""
    if not any(_sorted_folder(top, "val", wnid) for wnid in wnids):
        require(top / _ANNOTATIONS)
    return [
        (f"val/images/{nfc(_file(path))}", path, label)
        for label, wnid in enumerate(wnids)
        for path in class_images(top, _class_folder(top, "val", wnid), ANY)
    ]


def _class_folder(top: Path, part: str, wnid: str) -> str:
    """Return the folder of a class's images below ``top``. Raises FileNotFoundError if there is none."""
    folder = _sorted_folder(top, part, wnid)
    if folder is None:
        require(top / part / wnid)
    return folder or f"{part}/{wnid}"


def _sorted_folder(top: Path, part: str, wnid: str) -> str | None:
    places = (f"{part}/{wnid}/images", f"{part}/{wnid}", f"{part}/images/{wnid}")
    return next((place for place in places if (top / place).is_dir()), None)


def _names(file: Path, wnids: Sequence[str]) -> list[str]:
    """Return the first word for each class; all its words where two classes have the same first one."""
    wanted = set(wnids)
    words = {
        wnid: text.strip() for wnid, _, text in (line.partition("\t") for line in lines_of(file)) if wnid in wanted
    }
    for wnid in wnids:
        if not words.get(wnid):
            raise DamagedError(file, f"has no words for {wnid}, which wnids.txt lists")
    first = [words[wnid].partition(",")[0] for wnid in wnids]
    counts = Counter(first)
    names = [name if counts[name] == 1 else words[wnid] for name, wnid in zip(first, wnids, strict=True)]
    counts = Counter(names)
    return [name if counts[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True)]


# ---- ImageNet-R --------------------------------------------------------------------------------------------------


def _imagenet_r(top: Path, train: bool) -> Listing:
    """Read ImageNet-R(endition) (Hendrycks et al. 2021): art, cartoons, toys ... of 200 classes of ImageNet, named as
    their folders are.
    """
    aside = Aside()
    folders = class_folders(top, ANY, aside)
    for name in folders:
        if not _WNID.fullmatch(name):
            aside.add(_BESIDE, name)
    classes = [name for name in folders if _WNID.fullmatch(name)]
    if not classes:
        require(top / _FIRST)
    if train:
        _warn_of_a_part(top, len(classes))
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = class_images(top, folders[name], ANY, aside)
        chosen = [
            path for path, is_test in zip(found, for_testing(list(map(nfc, found))), strict=True) if is_test != train
        ]
        paths += chosen
        labels += [label] * len(chosen)
    if train:
        aside.log(top)
    return Listing("", paths, labels, classes, left_out=aside.kinds() if train else ())


def for_testing(keys: Sequence[str]) -> list[bool]:
    """Return for each image of a class, by its path below the set's folder (``n01443537/art_0.jpg``), whether it is for
    testing: if the BLAKE2b digest of that path (UTF-8, eight bytes, as a number in [0, 1)) is less than a fifth.

    So each image's side is its own. Only in a class that would have none on one side, which takes so few images that
    no published class is likely to, the nearest is moved there.
    """
    draws = [int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") for key in keys]
    is_test = [5 * draw < 1 << 64 for draw in draws]
    if len(keys) > 1 and len(set(is_test)) == 1:
        nearest = max(draws) if is_test[0] else min(draws)
        is_test[draws.index(nearest)] = not is_test[0]
    return is_test


def _warn_of_a_part(top: Path, classes: int) -> None:
    if classes != _CLASSES:
        log.warning(
            "%s has %d classes, and the published set %d: compare with no published number", top, classes, _CLASSES
        )


def _file(path: str) -> str:
    return path.rpartition("/")[2]


SETS = {
    "imagenet_r": PublishedSet(
        "imagenet-r",
        f"a folder for each of 200 classes, {_FIRST} and others",
        "n[0-9]*[0-9]/*.jpg",
        "https://github.com/hendrycks/imagenet-r",
        _imagenet_r,
    ),
    "tiny_imagenet": PublishedSet(
        "tiny-imagenet-200",
        "train, val, wnids.txt, words.txt",
        "wnids.txt",
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        _tiny_imagenet,
    ),
}
"""Variants of ImageNet by name."""
