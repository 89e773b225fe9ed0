"""Readers of the data sets: a name -> a training source and a test source.

Splits that a data set does not define itself are functions of the images' stable keys alone: they depend on no seed.
"""

from __future__ import annotations

import dataclasses
import http.client
import logging
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cl_lightning.core.errors import NOT_GIVEN, InvalidSettingError
from cl_lightning.core.nearest_name import nearest_name
from cl_lightning.data.sources import fine_grained, imagenet_variants
from cl_lightning.data.sources.base import ArraySource, FolderSource, Scanned, Table
from cl_lightning.data.sources.class_folders import ANY, class_folders
from cl_lightning.data.sources.decode_cache import scan
from cl_lightning.data.sources.image_folder import read_image_folder
from cl_lightning.data.sources.image_formats import MAX_PIXELS
from cl_lightning.data.sources.published import reader
from cl_lightning.data.sources.read_options import AUTO, PER_CLASS, Reading
from cl_lightning.data.sources.skipped_files import Aside

log = logging.getLogger(__name__)

Sources = tuple[Table, Table | None]

ARRAY_CHANNELS = {"digits": 1, "cifar100": 3}
"""Channels of the data sets whose images are arrays; the others are folders of files, read in colour."""

_SHOWN = 3
"""Number of broken images that a message names; the log has all."""
_CIFAR = "cifar-100-python"
PUBLISHED = {**fine_grained.SETS, **imagenet_variants.SETS}
"""Published sets in files of a layout of their own."""
FOLDERS = {"cifar100": _CIFAR, **{name: published.folder for name, published in PUBLISHED.items()}}
"""Folders below the root of the data sets that may share a root."""
_FIRST_HUNDRED = ("n01440764", "n01855672")
"""First and last of the hundred ImageNet classes that come first in alphabetical order."""

_READ_AGAIN: ContextVar[bool] = ContextVar("_READ_AGAIN", default=False)


@contextmanager
def read_again() -> Iterator[None]:
    """Let :func:`load_sources` warn of nothing: the same files are read elsewhere in the run, which warns."""
    token = _READ_AGAIN.set(True)
    try:
        yield
    finally:
        _READ_AGAIN.reset(token)


def load_sources(
    name: str,
    root: str | Path | None = None,
    *,
    with_test: bool = True,
    on_broken: str = "error",
    orientation: str = "ignore",
    files: str = ANY,
    evaluate_on: str = AUTO,
    test_share: float = 0.2,
    test_split: str = PER_CLASS,
    max_pixels: int = MAX_PIXELS,
) -> Sources:
    """Return the training and the test images of a data set; the test source is None without ``with_test``.

    A run that is evaluated on a validation share passes ``with_test=False``: test images are then not even read.

    - ``digits``: scikit-learn's 8 x 8 handwritten digits, one channel; every fifth image of a class is for testing.
    - ``cifar100``: Krizhevsky 2009, below ``root``, downloaded if it is not there.
    - ``imagenet100``, ``imagenet1000``: ``root/train/<wnid>`` and ``root/val/<wnid>``; the hundred classes are the
      first ones in alphabetical order.
    - ``aircraft``, ``cars``, ``cub200``, ``flowers102``, ``stanford_dogs``, ``imagenet_r``, ``tiny_imagenet``: as
      published by their authors, below ``root``; see :mod:`~cl_lightning.data.sources.fine_grained` and
      :mod:`~cl_lightning.data.sources.imagenet_variants`.
    - ``image_folder``: ``root/train/<class>`` with ``root/val`` or ``root/test``, or else ``root/<class>``, of which
      ``test_share`` of each class is for testing.

    ``files``, ``evaluate_on``, ``test_share`` and ``test_split`` are those of
    :class:`~cl_lightning.data.sources.read_options.Reading`. With ``orientation="apply"``, pictures in files are turned
    as their EXIF orientation says.

    New or changed files of a data set are decoded once. With ``on_broken="skip"``, files that do not decode are left
    out: no other image changes its key or its split. Pictures of more than ``max_pixels`` do not decode.

    Raises ValueError if the name is unknown, ``root`` does not hold the data set, files do not decode
    (``on_broken="error"``), or no file of a class does.
    """
    if name not in READERS:
        near = nearest_name(name, READERS)
        reason = f"is unknown (did you mean {near}?)" if near else "is unknown"
        raise InvalidSettingError("name", name, reason, ", ".join(READERS))
    top = None if root is None else Path(root).expanduser()
    train, test = READERS[name](top, with_test, Reading(files, evaluate_on, test_share, test_split))
    if top is None or not isinstance(train, FolderSource):
        return train, test
    found = [
        dataclasses.replace(source, max_pixels=max_pixels)
        for source in (train, test)
        if isinstance(source, FolderSource)
    ]
    whole = _decodable(found, top, skip=on_broken == "skip")
    upright = [dataclasses.replace(source, upright=orientation == "apply") for source in whole]
    return upright[0], upright[1] if len(upright) == 2 else test


def at_hand(name: str, root: str | Path | None) -> bool:
    """Return True if :func:`load_sources` could find a data set at its root, without a download."""
    if name == "digits":
        return True
    return name in READERS and root is not None and (Path(root).expanduser() / FOLDERS.get(name, "")).exists()


def _digits(_root: Path | None, with_test: bool, _reading: Reading) -> Sources:
    from sklearn.datasets import load_digits

    images, own_labels = load_digits(return_X_y=True)
    # The stored values are 0 .. 16.
    pixels = torch.from_numpy(np.rint(images * 255 / 16).astype(np.uint8)).view(-1, 1, 8, 8)
    labels = torch.from_numpy(own_labels).to(torch.int64)
    position_in_class = torch.zeros_like(labels)
    for label in range(10):
        rows = labels == label
        position_in_class[rows] = torch.arange(int(rows.sum()))
    is_test = position_in_class % 5 == 4

    def part(name: str, rows: Tensor) -> ArraySource:
        return ArraySource(f"digits/{name}", pixels[rows], labels[rows], tuple("0123456789"))

    return part("train", ~is_test), part("test", is_test) if with_test else None


def _cifar100(root: Path | None, with_test: bool, _reading: Reading) -> Sources:
    if root is None:
        raise InvalidSettingError("root", NOT_GIVEN, "is not set", "DIR, where CIFAR-100 is or shall be downloaded to")
    if not (root / _CIFAR).is_dir():
        _download_cifar100(root)
    return _cifar100_part(root, train=True), _cifar100_part(root, train=False) if with_test else None


def _cifar100_part(root: Path, *, train: bool) -> ArraySource:
    from continuum.datasets import CIFAR100

    try:
        data = CIFAR100(str(root), train=train, download=False)
    except RuntimeError as error:
        mend = "remove that folder to download it anew"
        raise InvalidSettingError("root", root, f"has a damaged {_CIFAR}", "DIR", mend) from error
    images, own_labels, _ = data.get_data()
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    labels = torch.from_numpy(own_labels).to(torch.int64)
    return ArraySource(f"cifar100/{'train' if train else 'test'}", pixels, labels, tuple(data.dataset.classes))


def _download_cifar100(root: Path) -> None:
    from continuum.datasets import CIFAR100

    log.info("downloading CIFAR-100 (169 MB) to %s", root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Unpacked in a temporary folder and renamed: neither a killed run nor a second process leaves half a data set.
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as aside:
            CIFAR100(aside, train=True, download=True)
            _move_once(Path(aside) / _CIFAR, root / _CIFAR)
    except (OSError, RuntimeError, EOFError, tarfile.TarError, http.client.HTTPException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidSettingError(
            "root",
            root,
            f"has no {_CIFAR} and the download failed ({reason})",
            "DIR, where it is already",
            "unpack cifar-100-python.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html there",
        ) from error


def _move_once(source: Path, target: Path) -> None:
    try:
        source.rename(target)
    except OSError:
        # Another process may have been faster.
        if not target.is_dir():
            raise


def _imagenet(count: int) -> Callable[[Path | None, bool, Reading], Sources]:
    name = f"imagenet{count}"

    def read(root: Path | None, with_test: bool, reading: Reading) -> Sources:
        top = _existing(root)
        for part in ("train", "val"):
            if not (top / part).is_dir():
                raise InvalidSettingError("root", root, f"has no folder {part}", "DIR with DIR/train and DIR/val")
        found = list(class_folders(top / "train", reading.files))
        if len(found) not in {count, 1000}:
            needed = f"{count}{' (or all 1000)' if count != 1000 else ''}"
            reason = f"has {len(found)} class folders in train, {name} needs {needed}"
            raise InvalidSettingError("root", root, reason, {"root": "DIR", "name": "image_folder"})
        classes = found[:count]
        if count == 100 and (classes[0], classes[-1]) != _FIRST_HUNDRED:
            log.warning("the classes in %s are not ImageNet's first hundred: compare with no published number", root)
        aside = Aside()

        def scanned(part: str) -> FolderSource:
            shown = f"{part}/"
            return FolderSource.scan(
                top / part, f"{name}/{part}", classes, files=reading.files, aside=aside, shown=shown
            )

        train, test = scanned("train"), scanned("val") if with_test else None
        aside.log(top)
        return dataclasses.replace(train, scanned=Scanned(left_out=aside.kinds())), test

    return read


def _image_folder(root: Path | None, with_test: bool, reading: Reading) -> Sources:
    return read_image_folder(_existing(root), with_test, reading)


def _decodable(sources: Sequence[FolderSource], root: Path, *, skip: bool) -> list[FolderSource]:
    """Return the sources with the digests of their files, without the images that do not decode. Raises ValueError if
    there are some, unless they may be left out (``skip``) and each class keeps another image.
    """
    found = scan(root, sources)
    sources = [dataclasses.replace(source, digests=one.digests) for source, one in zip(sources, found, strict=True)]
    broken = [one.broken for one in found]
    told = [
        f"{os.path.relpath(source.root / source.paths[row], root)} ({why})"
        for source, rows in zip(sources, broken, strict=True)
        for row, why in rows.items()
    ]
    if not told:
        return list(sources)
    for line in told if len(told) > _SHOWN else ():
        log.info("cannot be decoded: %s", line)
    shown = ", ".join(told[:_SHOWN]) + (f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else "")
    holds = f"holds {sum(map(len, sources))} images, of which {len(told)} cannot be decoded"
    if not skip:
        mends: dict[str, str] = {"on_broken": "skip to leave them out"}
        if largest := max(one.too_large for one in found):
            mends["max_pixels"] = f"{largest} to read those that are large"
        raise InvalidSettingError("root", root, f"{holds} ({shown})", mends, "repair or remove them")
    whole = [_without(source, rows) for source, rows in zip(sources, broken, strict=True)]
    level = logging.INFO if _READ_AGAIN.get() else logging.WARNING
    log.log(level, "%s %s: %s; they are left out", root, holds, shown)
    return whole


def _without(source: FolderSource, broken: dict[int, str]) -> FolderSource:
    whole = torch.ones(len(source), dtype=torch.bool)
    whole[list(broken)] = False
    rows = torch.nonzero(whole).flatten()
    left = source.labels[rows].bincount(minlength=len(source.class_names))
    if not left.all():
        label = int(left.argmin())
        row = next(row for row in broken if source.labels[row] == label)
        reason = f"leaves class {source.class_names[label]} of {source.name} without an image"
        mend = f"repair {source.root / source.paths[row]} ({broken[row]}), or add others of that class"
        raise InvalidSettingError("on_broken", "skip", reason, mend=mend)
    return source.select(rows, source.name)


def _existing(root: Path | None) -> Path:
    if root is None:
        raise InvalidSettingError("root", NOT_GIVEN, "is not set", "DIR, the folder with the images")
    if not root.is_dir():
        raise InvalidSettingError("root", root, "does not exist", "DIR, the folder with the images")
    return root


READERS: dict[str, Callable[[Path | None, bool, Reading], Sources]] = {
    "digits": _digits,
    "cifar100": _cifar100,
    "imagenet100": _imagenet(100),
    "imagenet1000": _imagenet(1000),
    "image_folder": _image_folder,
    **{name: reader(name, published) for name, published in PUBLISHED.items()},
}
