"""Published data sets in files: each in a folder of its own below the data root, as its authors gave it out.

A set says what its folder is called, what it holds and which page has it, and lists the images of a part. Here are the
steps that are the same for all: to find the folder, to check the list, and to say in a line what is wrong with either.
Nothing is downloaded.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cl_lightning.core.errors import NOT_GIVEN, InvalidFileError, InvalidSettingError
from cl_lightning.data.sources.base import FolderSource, Scanned
from cl_lightning.data.sources.class_folders import ANY, keys_of
from cl_lightning.data.sources.read_options import Reading
from cl_lightning.data.sources.skipped_files import LeftOut
from cl_lightning.data.sources.unicode_names import nfc


@dataclass(frozen=True)
class Listing:
    """Images of a part of a set, as its index or its folders list them."""

    index: str
    """File or folder, below the set's, that lists them: for messages."""
    paths: Sequence[str]
    """Paths below the set's folder, with forward slashes."""
    labels: Sequence[int]
    """Class of each, in [0, number of classes)."""
    class_names: Sequence[str]
    keys: Sequence[str] | None = None
    """Permanent names, where the same image may lie in several places; None: the paths."""
    left_out: tuple[LeftOut, ...] = ()
    """Files that are skipped, of sets whose images are found rather than listed."""


@dataclass(frozen=True)
class PublishedSet:
    """A data set as its authors gave it out."""

    folder: str
    """Name of its folder below the data root."""
    holds: str
    """Content of that folder, for messages."""
    mark: str
    """Pattern of a path in it by which the folder is known where it lies elsewhere."""
    page: str
    """Page of the authors that has the set."""
    read: Callable[[Path, bool], Listing]
    """Function of the set's folder and a flag for training. Raises ``DamagedError`` for a file that is not as
    published, and OSError for one that is not there.
    """


class DamagedError(ValueError):
    """A file of a published set that is not as its authors gave it out."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file} {reason}")
        self.file = file
        self.reason = reason


Reader = Callable[[Path | None, bool, Reading], tuple[FolderSource, FolderSource | None]]


def reader(name: str, published: PublishedSet) -> Reader:
    """Return the reader of a set from ``root/<its folder>``: training and test images."""

    def read(root: Path | None, with_test: bool, _reading: Reading) -> tuple[FolderSource, FolderSource | None]:
        top = _located(published, root)
        train = _part(name, published, top, train=True)
        test = _part(name, published, top, train=False) if with_test else None
        if test is not None and (both := set(train.keys or train.paths) & set(test.keys or test.paths)):
            reason = f"lists {min(map(str, both))} among the training images and among the test images"
            raise InvalidFileError(top, reason, _anew(published))
        return train, test

    return read


def require(*files: Path) -> None:
    """Raise FileNotFoundError for the first of ``files`` (or folders) that does not exist."""
    for file in files:
        if not file.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(file))


def lines_of(file: Path) -> list[str]:
    """Return the lines of a text file. Raises ``DamagedError`` if it is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DamagedError(file, "is no text in UTF-8") from error


def _wanted(published: PublishedSet) -> str:
    return f"DIR, where DIR/{published.folder} holds {published.holds}, of {published.page}"


def _anew(published: PublishedSet) -> str:
    return f"unpack the set anew, from {published.page}"


def _located(published: PublishedSet, root: Path | None) -> Path:
    """Return the folder of a set below ``root``. Raises ValueError if it is not there, or one folder too deep."""
    if root is None:
        raise InvalidSettingError("root", NOT_GIVEN, "is not set", _wanted(published))
    folder = published.folder
    top = root / folder
    if not top.is_dir():
        if _is_marked(root, published.mark):
            own, above = root.resolve().name, root.resolve().parent
            reason = f"holds the set itself, and the folder above is meant, which holds {folder}"
            where = f"{above}" if own == folder else f"{above} when {own} is renamed {folder}"
            raise InvalidSettingError("root", root, reason, where)
        raise InvalidSettingError("root", root, f"has no {folder}", _wanted(published))
    if not _is_marked(top, published.mark):
        for inner in sorted(top.iterdir()):
            if _is_marked(inner, published.mark):
                mend = f"move what is in it to {top}"
                raise InvalidFileError(inner, f"is one folder too deep, it should be {top}", mend, kind="the folder")
    return top


def _is_marked(folder: Path, mark: str) -> bool:
    return folder.is_dir() and next(folder.glob(mark), None) is not None


def _not_whole(published: PublishedSet, root: Path, reason: str) -> InvalidSettingError:
    return InvalidSettingError(
        "root", root, f"has a {published.folder} that is not whole ({reason})", _wanted(published)
    )


def _part(name: str, published: PublishedSet, top: Path, *, train: bool) -> FolderSource:
    try:
        listing = published.read(top, train)
    except InvalidFileError:
        raise
    except DamagedError as error:
        raise InvalidFileError(error.file, error.reason, _anew(published)) from error
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise _not_whole(published, top.parent, _reason(error, top)) from error
    _check(published, top, listing)
    return FolderSource(
        f"{name}/{'train' if train else 'test'}",
        top,
        tuple(listing.paths),
        torch.tensor(listing.labels, dtype=torch.int64),
        tuple(map(nfc, listing.class_names)),
        keys_of(listing.paths, ANY) if listing.keys is None else tuple(listing.keys),
        scanned=Scanned(left_out=listing.left_out),
    )


def _reason(error: Exception, top: Path) -> str:
    if isinstance(error, FileNotFoundError) and error.filename:
        return f"it has no {os.path.relpath(error.filename, top)}"
    return " ".join(str(error).split()) or type(error).__name__


def _check(published: PublishedSet, top: Path, listing: Listing) -> None:
    """Raise ValueError for classes of one name, and for an image that is listed twice or outside of the folder."""
    for name, count in Counter(listing.class_names).items():
        if count > 1:
            raise InvalidFileError(top / listing.index, f"has {count} classes called {name}", _anew(published))
    met: set[str] = set()
    for path, key in zip(listing.paths, listing.keys or listing.paths, strict=True):
        if key in met:
            raise InvalidFileError(top / listing.index, f"lists {key} twice", _anew(published))
        if path.startswith("/") or ".." in path.split("/") or "\0" in path:
            reason = f"lists {path}, which is no file in {top}"
            raise InvalidFileError(top / listing.index, reason, _anew(published))
        met.add(key)
