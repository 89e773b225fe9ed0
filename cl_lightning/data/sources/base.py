"""Tables of images with stable keys: the arrays and folders that every room above reads.

A *row* numbers the images of one source as it is now; a *key* names an image for good (its array index, or its path
below the folder), so that a memory or a checkpoint still points at the same image after a file was added.
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
    centre,
    decode,
    evaluated_short_side,
    random_crop,
    reason,
    resized,
    to_tensor,
)
from cl_lightning.data.sources.image_formats import MAX_PIXELS, TooLargeError
from cl_lightning.data.sources.skipped_files import Aside, LeftOut


class ImageSource(Protocol):
    """A table of labelled images: what scenarios, memories and loaders need to know of a data set."""

    @property
    def name(self) -> str:
        """Data set and part, such as ``cifar100/train``."""
        ...

    @property
    def labels(self) -> Tensor:
        """(n,) int64, the data set's own class index of each row, in [0, number of classes)."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """By the data set's own class index."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digest of what the table holds, the same in every process and in every place."""
        ...

    @property
    def contents(self) -> Tensor:
        """(n, DIGEST_SIZE) uint8: what each image consists of, the same for equal images wherever they are and whatever
        they are called; see :mod:`~cl_lightning.data.sources.content_digest`.
        """
        ...

    def __len__(self) -> int: ...

    def key(self, row: int) -> int | str:
        """The stable name of a row's image."""
        ...

    def row(self, key: int | str) -> int:
        """Where the image with this key is now; ValueError, naming the key, if it is nowhere."""
        ...

    def load_train(self, row: int, size: int, key: Key, position: int) -> Tensor:
        """(channels, size, size) uint8: what training sees before it augments, at ``position`` of the epoch of
        ``key``.
        """
        ...

    def load_test(self, row: int, size: int) -> Tensor:
        """(channels, size, size) uint8: what evaluation sees."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Images of one size, held in memory; the key of an image is its index, unless ``keys`` says another."""

    name: str
    pixels: Tensor
    """(n, C, H, W) uint8."""
    labels: Tensor
    class_names: tuple[str, ...]
    keys: tuple[int | str, ...] | None = None
    """Of each row, where the images come from elsewhere and keep the names that they had there."""
    digests: Tensor | None = None
    """``contents``, where the images were made from others: what those consist of."""

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4:
            kind = f"{tuple(self.pixels.shape)} {self.pixels.dtype}"
            raise ValueError(f"pixels of {self.name} are {kind}, not (n, C, H, W) uint8")
        _check_labels(self.labels, len(self.pixels), self.class_names)
        _check_keys(self.keys, len(self.pixels))
        _check_digests(self.digests, len(self.pixels))

    def select(self, rows: Tensor, name: str) -> ArraySource:
        """The source of these rows alone, with the same keys and classes."""
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

    def load_train(self, row: int, size: int, key: Key, position: int) -> Tensor:
        """(C, size, size) uint8: the whole image, resized if it has another size; nothing is drawn."""
        return resized(self.pixels[row], size)

    def load_test(self, row: int, size: int) -> Tensor:
        """The same."""
        return resized(self.pixels[row], size)

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
        """Of the size and the pixels of each image, or of what it was made from."""
        return self._contents if self.digests is None else self.digests

    @cached_property
    def _contents(self) -> Tensor:
        size = repr(tuple(self.pixels.shape[1:])).encode()
        return as_table(digest(size, image.data) for image in self.pixels.contiguous().numpy())


@dataclass(frozen=True)
class Scanned:
    """What is to be told of the folder that files were found in."""

    left_out: tuple[LeftOut, ...] = ()
    evaluated: str | None = None
    """The folder below the data root that evaluation images are in; None where they are no folder of their own."""
    is_validation: bool = False
    """Whether that is a validation part, so that its numbers are no test results."""
    unused: str | None = None
    """A part that is there and not read."""


@dataclass(frozen=True, eq=False)
class FolderSource:
    """Image files in one folder per class; the key of an image is its path below ``root``, with forward slashes, unless
    ``keys`` says another.

    Only paths are kept: a file is decoded each time that it is asked for. Every colour mode is converted to RGB.
    """

    name: str
    root: Path
    paths: tuple[str, ...]
    """Below ``root``, or absolute where the files lie in several places."""
    labels: Tensor
    class_names: tuple[str, ...]
    keys: tuple[int | str, ...] | None = None
    """Of each row, where the files come from elsewhere and keep the names that they had there, or where an accent in a
    path may be written in two ways.
    """
    digests: Tensor | None = None
    """``contents``, where they are known: else each file is read when they are asked for."""
    upright: bool = False
    """Whether pictures are turned as their EXIF orientation says."""
    max_pixels: int = MAX_PIXELS
    """Of a picture that is decoded."""
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
            root: where the class folders are.
            name: of the source.
            classes: names of the classes to read; None: all.
            files: which files are images, ``any`` or ``by_suffix``: see :mod:`~cl_lightning.data.sources.class_folders`.
            aside: takes what is there besides.
            shown: what is put before its path below ``root``.

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
        """The source of these rows alone, with the same keys and classes."""
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
        """Of the bytes of each file."""
        return self._contents if self.digests is None else self.digests

    @cached_property
    def _contents(self) -> Tensor:
        return as_table(digest((self.root / path).read_bytes()) for path in self.paths)

    def load_train(self, row: int, size: int, key: Key, position: int) -> Tensor:
        """(3, size, size) uint8: a random crop, scaled bicubically; see :func:`random_crop`."""
        image = self._decode(row)
        box = random_crop(image.width, image.height, key, position)
        return to_tensor(image.crop(box).resize((size, size), Image.Resampling.BICUBIC))

    def load_test(self, row: int, size: int) -> Tensor:
        """(3, size, size) uint8: short side to 256/224 of ``size``, bicubically, then the centre."""
        return to_tensor(self._centre(row, size, evaluated_short_side(size)))

    def load_as(self, row: int, size: int, channels: int) -> Tensor:
        """(channels, size, size) uint8, for a place among an array's images: short side to ``size``, then the centre,
        so that a picture of this size stays as it is; one channel is luminance. Predictions see pictures so too.
        """
        image = self._centre(row, size, size)
        return to_tensor(image) if channels == 3 else torch.from_numpy(np.array(image.convert("L")))[None]

    def _centre(self, row: int, size: int, short: int) -> Image.Image:
        image = self._decode(row)
        try:
            return centre(image, size, short)
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
"""What a data set is read as."""


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
