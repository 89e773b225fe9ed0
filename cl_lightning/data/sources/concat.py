"""Several tables of images as one: rows numbered consecutively, keys prefixed with the number of the table.

Every image becomes square, of one size and in colour, whichever table it is in: arrays are resized (one channel is
repeated), files are cropped as usual. Small arrays are resized once and stored; large ones are resized row by row, when
a row is loaded.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from cl_lightning.core.rng import Key
from cl_lightning.data.sources.base import ArraySource, ImageSource
from cl_lightning.data.sources.decoding import USUAL, Scaling, resized

KEPT_AT_MOST = 1 << 30
"""Bytes of resized arrays that are stored; larger ones are resized anew each time."""


def join(name: str, parts: Sequence[ImageSource], size: int) -> ImageSource:
    """Return one table of all rows of ``parts``, each of which numbers its own classes; classes follow one another too.

    It is an :class:`~cl_lightning.data.sources.base.ArraySource` of images of ``size`` pixels if all parts are arrays
    and it takes at most 1 GiB, and else a :class:`ConcatSource`; both give the same images under the same keys.
    """
    joined = ConcatSource(name, tuple(parts))
    arrays = [part for part in parts if isinstance(part, ArraySource)]
    if len(arrays) < len(parts) or len(joined) * 3 * size * size > KEPT_AT_MOST:
        return joined
    pixels = torch.empty(len(joined), 3, size, size, dtype=torch.uint8)
    for array, target in zip(arrays, pixels.split([len(array) for array in arrays]), strict=True):
        for row, image in enumerate(array.pixels):
            target[row] = resized(image, size)  # one channel fills all three
    keys = tuple(joined.key(row) for row in range(len(joined)))
    return ArraySource(name, pixels, joined.labels, joined.class_names, keys, joined.contents)


@dataclass(frozen=True, eq=False)
class ConcatSource:
    """The rows of all ``parts``, one part after another; image ``k`` of part p (from 1) has the key ``p/k`` here."""

    name: str
    parts: tuple[ImageSource, ...]

    @property
    def labels(self) -> Tensor:
        return self._labels

    @cached_property
    def _labels(self) -> Tensor:
        firsts = accumulate((len(part.class_names) for part in self.parts), initial=0)
        return torch.cat([part.labels + first for part, first in zip(self.parts, firsts, strict=False)])

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(class_name for part in self.parts for class_name in part.class_names)

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for part in self.parts:
            digest.update(f"{part.fingerprint}\n".encode())
        return digest.hexdigest()

    @property
    def contents(self) -> Tensor:
        """Digests of the images as they are in their parts, whatever size they are resized to."""
        return self._contents

    @cached_property
    def _contents(self) -> Tensor:
        return torch.cat([part.contents for part in self.parts])

    def __len__(self) -> int:
        return self._starts[-1]

    def key(self, row: int) -> int | str:
        part, own = self._part_of(row)
        return f"{part + 1}/{self.parts[part].key(own)}"

    def row(self, key: int | str) -> int:
        try:
            return self._rows[key]
        except KeyError:
            raise ValueError(f"image {key!r} is not in {self.name}, which holds {len(self)} images") from None

    def load_train(self, row: int, size: int, key: Key, position: int, scaling: Scaling = USUAL) -> Tensor:
        """Return (3, size, size) uint8: the part's training image."""
        part, own = self._part_of(row)
        return _in_colour(self.parts[part].load_train(own, size, key, position, scaling))

    def load_test(self, row: int, size: int, scaling: Scaling = USUAL) -> Tensor:
        """Return (3, size, size) uint8: the part's evaluation image."""
        part, own = self._part_of(row)
        return _in_colour(self.parts[part].load_test(own, size, scaling))

    def _part_of(self, row: int) -> tuple[int, int]:
        """Return the index of a row's part, and its row there."""
        part = bisect_right(self._starts, row) - 1
        return part, row - self._starts[part]

    @cached_property
    def _starts(self) -> list[int]:
        """First row of each part, and the number of all rows."""
        return list(accumulate((len(part) for part in self.parts), initial=0))

    @cached_property
    def _rows(self) -> dict[int | str, int]:
        return {self.key(row): row for row in range(len(self))}


def _in_colour(image: Tensor) -> Tensor:
    return image.expand(3, -1, -1) if len(image) == 1 else image
