"""Images read in batches, ahead of the network that computes: what cannot be read is left out, with its reason."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from cl_lightning.core.errors import Options, UnreadableImageError

T = TypeVar("T")

_OPTIONS = Options(renamed={"max_pixels": "--max-pixels"})


@dataclass(frozen=True)
class Skipped:
    """A file that could not be read as an image."""

    file: Path
    reason: str


Unreadable = list[tuple[T, str]]
"""Items that could not be read, and why."""


def read_batches(
    read: Callable[[T], Tensor], items: Sequence[T], size: int
) -> Iterator[tuple[Tensor, list[T], Unreadable[T]]]:
    """Yield images of ``size`` items at a time, while threads read the next ones: the images stacked, their items, and
    the items that ``read`` refused with ``UnreadableImageError``.
    """
    Image.init()  # or a thread could run before Pillow has registered its formats
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large images are the user's choice
        try:
            ahead: list[tuple[T, Future[Tensor]]] = []
            for start in range(0, len(items), size):
                current, ahead = ahead, [(item, pool.submit(read, item)) for item in items[start : start + size]]
                if current:
                    yield _collect(current)
            if ahead:
                yield _collect(ahead)
        finally:
            pool.shutdown(cancel_futures=True)


def _collect(reading: list[tuple[T, Future[Tensor]]]) -> tuple[Tensor, list[T], Unreadable[T]]:
    images: list[Tensor] = []
    read: list[T] = []
    unreadable: Unreadable[T] = []
    for item, future in reading:
        try:
            images.append(future.result())
            read.append(item)
        except UnreadableImageError as error:
            unreadable.append((item, _OPTIONS.why(error)))
    return torch.stack(images) if images else torch.empty(0), read, unreadable
