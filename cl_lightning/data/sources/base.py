"""Tables of images with stable keys: the arrays and folders that every package above reads.

A *row* numbers the images of one source in its present state; a *key* names an image permanently (its array index, or
its path below the folder), so that a memory or a checkpoint still refers to the same image after a file was added.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cl_lightning.core.errors import InvalidFileError, UnreadableImageError
from cl_lightning.core.rng import Key
from cl_lightning.data.sources.class_folders import ANY, class_folders, class_images, keys_of
from cl_lightning.data.sources.content_digest import DIGEST_SIZE, as_table, digest
from cl_lightning.data.sources.decoding import (
    USUAL,
    Scaling,
    centre,
    decode,
    random_crop,
    reason,
    resized,
    squashed,
    to_tensor,
)
from cl_lightning.data.sources.image_formats import MAX_PIXELS, TooLargeError
from cl_lightning.data.sources.skipped_files import Aside, LeftOut


class ImageSource(Protocol):
    """A table of labelled images: the interface of a data set to scenarios, memories and loaders."""

    @property
    def name(self) -> str:
        """Name of data set and part, such as ``cifar100/train``."""
        ...

    @property
    def labels(self) -> Tensor:
        """(n,) int64, the data set's own class index of each row, in [0, number of classes)."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by the data set's own class index."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of the table's content, the same in every process and on every machine."""
        ...

    @property
    def contents(self) -> Tensor:
        """(n, DIGEST_SIZE) uint8: digest of each image's content, equal for equal images whatever their location and
        name; see :mod:`~cl_lightning.data.sources.content_digest`.
        """
        ...

    def __len__(self) -> int: ...

    def key(self, row: int) -> int | str:
        """Return the stable name of a row's image."""
        ...

    def row(self, key: int | str) -> int:
        """Return the present row of the image with this key. Raises ValueError, naming the key, if there is none."""
        ...

    def load_train(self, row: int, size: int, key: Key, position: int, scaling: Scaling = USUAL) -> Tensor:
        """Return (channels, size, size) uint8, the training image before augmentation, at ``position`` of the epoch of
        ``key``.
        """
        ...

    def load_test(self, row: int, size: int, scaling: Scaling = USUAL) -> Tensor:
        """Return (channels, size, size) uint8, the evaluation image."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Images of one size, stored in memory; the key of an image is its index, unless ``keys`` are given."""

    name: str
    pixels: Tensor
    """(n, C, H, W) uint8."""
    labels: Tensor
    class_names: tuple[str, ...]
    keys: tuple[int | str, ...] | None = None
    """Key of each row, for images that come from elsewhere and keep their names."""
    digests: Tensor | None = None
    """``contents``, for images made from others: digests of the originals."""

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4:
            kind = f"{tuple(self.pixels.shape)} {self.pixels.dtype}"
            raise ValueError(f"pixels of {self.name} are {kind}, not (n, C, H, W) uint8")
        _check_labels(self.labels, len(self.pixels), self.class_names)
        _check_keys(self.keys, len(self.pixels))
        _check_digests(self.digests, len(self.pixels))

    def select(self, rows: Tensor, name: str) -> ArraySource:
        """Return the source of these rows alone, with the same keys and classes."""
        keys = tuple(self.key(row) for row in rows.tolist())
        digests = None if self.digests is None else self.digests[rows]
        return ArraySource(name, self.pixels[rows], self.labels[rows], self.class_names, keys, digests)

    def __len__(self) -> int:
        return len(self.pixels)

    def key(self, row: int) -> int | str:
        return row if self.keys is None else self.keys[row]

    def row(self, key: int | str) -> int:
        if self.keys is not None:
            return _row_of(key, self._rows, self.name)
        if type(key) is not int or not 0 <= key < len(self):
            raise ValueError(f"image {key!r} is not in {self.name}, which holds images 0..{len(self) - 1}")
        return key

    @cached_property
    def _rows(self) -> dict[int | str, int]:
        return {key: row for row, key in enumerate(self.keys or ())}

    def load_train(self, row: int, size: int, key: Key, position: int, scaling: Scaling = USUAL) -> Tensor:
        """Return (C, size, size) uint8: the whole image, resized if it has another size; nothing is random."""
        return resized(self.pixels[row], size, scaling.interpolation)

    def load_test(self, row: int, size: int, scaling: Scaling = USUAL) -> Tensor:
        """Return the same as :meth:`load_train`."""
        return resized(self.pixels[row], size, scaling.interpolation)

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        whole = hashlib.blake2b(repr(tuple(self.pixels.shape)).encode(), digest_size=16)
        if self.keys is not None:
            whole.update(repr(self.keys).encode())
        whole.update(self.labels.contiguous().numpy().data)
        whole.update(self.pixels.reshape(-1).numpy().data)
        return whole.hexdigest()

    @property
    def contents(self) -> Tensor:
        """(n, DIGEST_SIZE) uint8: digest of the size and pixels of each image, or of its original."""
        return self._contents if self.digests is None else self.digests

    @cached_property
    def _contents(self) -> Tensor:
        size = repr(tuple(self.pixels.shape[1:])).encode()
        return as_table(digest(size, image.data) for image in self.pixels.contiguous().numpy())


@dataclass(frozen=True)
class Scanned:
    """Facts about the scanned folder that are reported to the user."""

    left_out: tuple[LeftOut, ...] = ()
    evaluated: str | None = None
    """Folder of evaluation images below the data root; None where they have no folder of their own."""
    is_validation: bool = False
    """True if that is a validation part, so that its numbers are no test results."""
    unused: str | None = None
    """An existing part that is not read."""


@dataclass(frozen=True, eq=False)
class FolderSource:
    """Image files in one folder per class; the key of an image is its path below ``root``, with forward slashes, unless
    ``keys`` says another.

    Only paths are stored: a file is decoded each time it is loaded. Every colour mode is converted to RGB.
    """

    name: str
    root: Path
    paths: tuple[str, ...]
    """Paths below ``root``, or absolute ones for files of several folders."""
    labels: Tensor
    class_names: tuple[str, ...]
    keys: tuple[int | str, ...] | None = None
    """Key of each row, for files that come from elsewhere and keep their names, or where an accent in a path may be
    written in two ways.
    """
    digests: Tensor | None = None
    """``contents``, if they are known: else each file is read when they are needed."""
    upright: bool = False
    """True if pictures are turned as their EXIF orientation says."""
    max_pixels: int = MAX_PIXELS
    """Largest number of pixels of a picture that is decoded."""
    scanned: Scanned = Scanned()

    def __post_init__(self) -> None:
        _check_labels(self.labels, len(self.paths), self.class_names)
        _check_keys(self.keys, len(self.paths))
        _check_digests(self.digests, len(self.paths))

    @classmethod
    def scan(
        cls,
        root: Path,
        name: str,
        classes: Sequence[str] | None = None,
        *,
        files: str = ANY,
        aside: Aside | None = None,
        shown: str = "",
    ) -> FolderSource:
        """List the images of each class folder in ``root``, classes and files sorted by name.

        Args:
            root: the folder of the class folders.
            name: name of the source.
            classes: names of the classes to read; None: all.
            files: which files are images, ``any`` or ``by_suffix`` (:mod:`~cl_lightning.data.sources.class_folders`).
            aside: collects everything else in the folder.
            shown: prefix of paths below ``root`` in messages.

        Raises:
            ValueError: no classes, or one that is missing, holds no image, or has the name of another.
        """
        folders = class_folders(root, files, aside, shown)
        chosen = tuple(folders if classes is None else classes)
        if not chosen:
            wanted = {"root": "DIR, with one folder of images per class"}
            raise InvalidFileError(root, "has no class folders", allowed=wanted)
        paths: list[str] = []
        labels: list[int] = []
        for label, class_name in enumerate(chosen):
            found = class_images(root, folders.get(class_name, class_name), files, aside, shown)
            paths += found
            labels += [label] * len(found)
        return cls(name, root, tuple(paths), torch.tensor(labels), chosen, keys_of(paths, files))

    def select(self, rows: Tensor, name: str) -> FolderSource:
        """Return the source of these rows alone, with the same keys and classes."""
        paths = tuple(self.paths[row] for row in rows.tolist())
        keys = None if self.keys is None else tuple(self.keys[row] for row in rows.tolist())
        digests = None if self.digests is None else self.digests[rows]
        labels = self.labels[rows]
        return dataclasses.replace(self, name=name, paths=paths, labels=labels, keys=keys, digests=digests)

    def __len__(self) -> int:
        return len(self.paths)

    def key(self, row: int) -> int | str:
        return self.paths[row] if self.keys is None else self.keys[row]

    def row(self, key: int | str) -> int:
        if self.keys is not None:
            return _row_of(key, self._rows, self.name)
        try:
            return self._rows[key]
        except KeyError:
            raise ValueError(f"image {key!r} is not in {self.name}: there is no such file below {self.root}") from None

    @cached_property
    def _rows(self) -> dict[int | str, int]:
        return {key: row for row, key in enumerate(self.keys or self.paths)}

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        whole = hashlib.blake2b(digest_size=16)
        for key, label in zip(self.keys or self.paths, self.labels.tolist(), strict=True):
            whole.update(f"{key}\0{label}\n".encode())
        return whole.hexdigest()

    @property
    def contents(self) -> Tensor:
        """(n, DIGEST_SIZE) uint8: digest of the bytes of each file."""
        return self._contents if self.digests is None else self.digests

    @cached_property
    def _contents(self) -> Tensor:
        return as_table(digest((self.root / path).read_bytes()) for path in self.paths)

    def load_train(self, row: int, size: int, key: Key, position: int, scaling: Scaling = USUAL) -> Tensor:
        """Return (3, size, size) uint8: a random crop, scaled; see :func:`random_crop`."""
        image = self._decode(row)
        box = random_crop(image.width, image.height, key, position)
        return to_tensor(squashed(image.crop(box), size, scaling.interpolation))

    def load_test(self, row: int, size: int, scaling: Scaling = USUAL) -> Tensor:
        """Return (3, size, size) uint8: the whole picture, or its short side scaled (usually to 256/224 of ``size``),
        then the centre.
        """
        if scaling.whole:
            return to_tensor(squashed(self._decode(row), size, scaling.interpolation))
        return to_tensor(self._centre(row, size, scaling.short_side(size), scaling.interpolation))

    def load_as(self, row: int, size: int, channels: int) -> Tensor:
        """Return (channels, size, size) uint8, to join an array's images: short side scaled to ``size``, then the
        centre, so that a picture of this size is unchanged; one channel is luminance. Predictions load pictures this
        way too.
        """
        image = self._centre(row, size, size)
        return to_tensor(image) if channels == 3 else torch.from_numpy(np.array(image.convert("L")))[None]

    def _centre(self, row: int, size: int, short: int, interpolation: str = "bicubic") -> Image.Image:
        image = self._decode(row)
        try:
            return centre(image, size, short, interpolation)
        except ValueError as error:
            path = self.root / self.paths[row]
            raise UnreadableImageError(path, f"cannot be used ({error})", "cut or remove the file") from error

    def _decode(self, row: int) -> Image.Image:
        path = self.root / self.paths[row]
        try:
            return decode(path, turned=self.upright, max_pixels=self.max_pixels)
        except MemoryError:
            raise
        except TooLargeError as error:
            larger = {"max_pixels": f"{error.pixels} to read it"}
            raise UnreadableImageError(path, f"has {error}", "remove the file", larger) from error
        except Exception as error:
            why = f"cannot be read as an image ({reason(error)})"
            raise UnreadableImageError(path, why, "repair or remove the file") from error


Table = ArraySource | FolderSource
"""Source that a data set is read as."""


def _check_labels(labels: Tensor, count: int, class_names: tuple[str, ...]) -> None:
    if labels.dtype != torch.int64 or labels.shape != (count,):
        raise ValueError(f"labels are {tuple(labels.shape)} {labels.dtype}, not one int64 for each of {count} images")
    if count and not 0 <= int(labels.min()) <= int(labels.max()) < len(class_names):
        found = f"labels go from {int(labels.min())} to {int(labels.max())}"
        raise ValueError(f"{found}, there are {len(class_names)} class names")


def _check_keys(keys: tuple[int | str, ...] | None, count: int) -> None:
    if keys is not None and not len(keys) == len(set(keys)) == count:
        raise ValueError(
            f"{len(keys)} keys, {len(set(keys))} of them different, are not one for each of {count} images"
        )


def _check_digests(digests: Tensor | None, count: int) -> None:
    if digests is not None and digests.shape != (count, DIGEST_SIZE):
        raise ValueError(f"digests {tuple(digests.shape)} are not one for each of {count} images")


def _row_of(key: int | str, rows: dict[int | str, int], name: str) -> int:
    try:
        return rows[key]
    except KeyError:
        raise ValueError(f"image {key!r} is not in {name}, which holds {len(rows)} images") from None
