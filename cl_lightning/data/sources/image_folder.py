"""Image folders of the user: folders of classes, below training and test parts or split by the images' names."""

from __future__ import annotations

import dataclasses
import difflib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from cl_lightning.core.classes import rows_by_class
from cl_lightning.core.errors import Allowed, InvalidFileError, InvalidSettingError
from cl_lightning.core.rng import Key, scalar
from cl_lightning.data.sources.base import FolderSource, Scanned
from cl_lightning.data.sources.class_folders import class_folders, kind_of
from cl_lightning.data.sources.read_options import AUTO, PER_IMAGE, TEST, VAL, VAL_OR_TEST, Reading
from cl_lightning.data.sources.skipped_files import Aside
from cl_lightning.data.sources.unicode_names import similar, twins

log = logging.getLogger(__name__)

_TRAIN = "train"
SPELLINGS = {
    _TRAIN: ("train", "training"),
    VAL: ("val", "valid", "validation"),
    TEST: ("test", "testing"),
}
"""Part -> allowed names of its folder, in any mixture of upper and lower case."""

Parts = dict[str, str]
"""Existing parts -> names of their folders."""


def read_image_folder(root: Path, with_test: bool, reading: Reading) -> tuple[FolderSource, FolderSource | None]:
    """Return training and evaluation images of ``root/train/<class>`` with ``root/val`` or ``root/test``, or else of
    ``root/<class>``, of which a share is for testing.

    Raises ValueError if there are no classes, a class has no image in one of the parts, or a part is missing.
    """
    aside = Aside()
    parts = find_parts(root, reading.evaluate_on)
    train, test = (_in_parts if parts else _in_one)(root, parts, with_test, reading, aside)
    alike = twins(train.class_names)
    if alike:
        log.warning("%s has the classes %s and %s, which are called nearly the same", root, *alike)
    aside.log(root)
    return dataclasses.replace(train, scanned=Scanned(left_out=aside.kinds())), test


def find_parts(root: Path, evaluate_on: str = AUTO) -> Parts:
    """Return the parts of ``root``; none if its folders are classes. A class may be called ``train``: only folders
    within it make it a part.

    Raises ValueError if a part is there twice.
    """
    exact = evaluate_on == VAL_OR_TEST
    found: dict[str, list[str]] = {}
    for name in sorted(entry.name for entry in root.iterdir() if entry.is_dir()):
        for part, spellings in SPELLINGS.items():
            if name == part if exact else name.casefold() in spellings:
                found.setdefault(part, []).append(name)
    trains = [name for name in found.get(_TRAIN, []) if class_folders(root / name)]
    if not trains or (not exact and len(found) == 1 and _holds_an_image(root / trains[0])):
        return {}
    for part, names in {**found, _TRAIN: trains}.items():
        if len(names) > 1:
            reason = f"has {' and '.join(names)}, which may both be the {part} part"
            raise InvalidSettingError("root", root, reason, mend="rename or remove one")
    return {part: names[0] for part, names in {**found, _TRAIN: trains}.items()}


def evaluated_part(root: Path, parts: Parts, evaluate_on: str) -> str:
    """Return ``val`` or ``test``. Raises ValueError if it does not exist."""
    there = [part for part in (TEST, VAL) if part in parts]
    if evaluate_on in (VAL, TEST):
        if evaluate_on not in there:
            reason = f", but {root} has no folder {evaluate_on}"
            instead: Allowed = {"evaluate_on": there[0]} if there else {"validation": 0.1}
            raise InvalidSettingError("evaluate_on", evaluate_on, reason, instead, "add it")
        return evaluate_on
    if not there:
        train = parts[_TRAIN]
        reason = f"has {train} but neither val nor test"
        raise InvalidSettingError("root", root, reason, f"{root}/{train}", "add one")
    if evaluate_on == VAL_OR_TEST:
        return there[-1]
    # Unsorted pictures, as contests give them out, cannot be evaluated on.
    return there[0] if len(there) == 1 or class_folders(root / parts[there[0]]) else there[1]


def _in_parts(
    root: Path, parts: Parts, with_test: bool, reading: Reading, aside: Aside
) -> tuple[FolderSource, FolderSource | None]:
    folder = parts[_TRAIN]
    _beside(root, list(parts.values()), reading, aside)
    part = evaluated_part(root, parts, reading.evaluate_on) if with_test or len(parts) == 1 else None
    train = FolderSource.scan(root / folder, "image_folder/train", files=reading.files, aside=aside, shown=f"{folder}/")
    if not with_test or part is None:
        return train, None
    name = parts[part]
    _check_counterparts(root / name, reading, train.class_names)
    test = FolderSource.scan(
        root / name, f"image_folder/{part}", train.class_names, files=reading.files, aside=aside, shown=f"{name}/"
    )
    unused = next((parts[other] for other in (VAL, TEST) if other in parts and other != part), None)
    is_validation = part == VAL and (reading.evaluate_on == VAL or (reading.evaluate_on == AUTO and unused is not None))
    return train, dataclasses.replace(test, scanned=Scanned((), name, is_validation, unused))


def _beside(root: Path, parts: Sequence[str], reading: Reading, aside: Aside) -> None:
    """Count the entries beside the parts."""
    with os.scandir(root) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name in parts:
                continue
            kind = kind_of(entry, reading.files) or "images"
            aside.add(
                {"images": "images beside the parts", "folder": "folders beside the parts"}.get(kind, kind), entry.name
            )


def _check_counterparts(folder: Path, reading: Reading, classes: Sequence[str]) -> None:
    unknown = sorted(set(class_folders(folder, reading.files)) - set(classes))
    if unknown:
        twin = similar(unknown[:1], classes)
        near = [twin[1]] if twin else difflib.get_close_matches(unknown[0], classes, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        reason = f"has no counterpart in train{hint}"
        raise InvalidFileError(folder / unknown[0], reason, "add or remove it", kind="class folder")


def _in_one(
    root: Path, _parts: Parts, with_test: bool, reading: Reading, aside: Aside
) -> tuple[FolderSource, FolderSource | None]:
    if with_test and reading.evaluate_on in (VAL, TEST):
        asked = reading.evaluate_on
        raise InvalidSettingError(
            "evaluate_on",
            asked,
            f"needs folders train and {asked} in {root}, which has none",
            "auto to keep a share of each class for testing",
            "add them",
        )
    source = FolderSource.scan(root, "image_folder", files=reading.files, aside=aside)
    share = reading.test_share
    if not 0 < share < 1:
        raise InvalidSettingError("test_share", share, "is not between 0 and 1", 0.2)
    is_test = (_drawn_per_image if reading.test_split == PER_IMAGE else _drawn_per_class)(source, share)
    train, test = (torch.nonzero(rows).flatten() for rows in (~is_test, is_test))
    return source.select(train, "image_folder/train"), source.select(test, "image_folder/test") if with_test else None


def _draws(source: FolderSource) -> Tensor:
    """Return (n,) float64 in [0, 1), a function of each image's key alone."""
    stream = Key(0).fold("test share")
    return torch.tensor([scalar(stream.fold(source.key(row))) for row in range(len(source))], dtype=torch.float64)


def _drawn_per_class(source: FolderSource, share: float) -> Tensor:
    """Return (n,) bool: of each class the images of the lowest draws, ``share`` of them, rounded, and at least one on
    each side. An image that is added or removed moves at most one other of its class to the other side.
    """
    draws = _draws(source)
    chosen = torch.zeros(len(source), dtype=torch.bool)
    by_class = rows_by_class(source.labels, len(source.class_names))
    for class_name, rows in zip(source.class_names, by_class, strict=True):
        if len(rows) < 2:
            reason = f"leaves class {class_name} (images: {len(rows)}) without a test image"
            mend = "add images, or sort them into folders train and test"
            raise InvalidSettingError("test_share", share, reason, mend=mend)
        count = min(max(1, int(share * len(rows) + 0.5)), len(rows) - 1)
        chosen[rows[draws[rows].argsort(stable=True)[:count]]] = True
    return chosen


def _drawn_per_image(source: FolderSource, share: float) -> Tensor:
    """Return (n,) bool: every image whose draw is below ``share``; each class needs an image on either side."""
    draws = _draws(source)
    is_test = draws < share
    by_class = rows_by_class(source.labels, len(source.class_names))
    for class_name, rows in zip(source.class_names, by_class, strict=True):
        mine = is_test[rows]
        if mine.all() or not mine.any():
            side = "training" if mine.all() else "test"
            reason = f"leaves class {class_name} (images: {len(mine)}) without a {side} image"
            raise InvalidSettingError("test_share", share, reason, *_advice(draws, source.labels))
    return is_test


def _advice(draws: Tensor, labels: Tensor) -> tuple[Allowed, str]:
    """Return the settings that mend it, and what else does."""
    own = [draws[labels == label] for label in labels.unique()]
    # Two decimals, rounded inwards.
    low = int(max(float(of_class.min()) for of_class in own) * 100 + 1) / 100
    high = int(min(float(of_class.max()) for of_class in own) * 100) / 100
    if low <= high:
        return {"test_split": "per_class", "test_share": f"{low} to {high}"}, ""
    return {"test_split": "per_class"}, "add images, or sort them into folders train and val"


def _holds_an_image(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(kind_of(entry) is None for entry in entries)
