"""Exemplars of a finished run, stored as files of their own: the only old training data that learning one more task
needs.

``exemplars/`` holds ``index.json`` (classes, tasks, and key and label of each image) with the images beside it, so that
training sees the same images as before: pixels of arrays in ``pixels.safetensors``; of folders the unchanged files in
``files/``, since random crops are cut from the whole picture.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save

from cl_lightning.core.atomic_write import beside, replace_file, write_atomic
from cl_lightning.data.scenarios.image_identity import Identity
from cl_lightning.data.sources.base import ArraySource, FolderSource
from cl_lightning.data.sources.content_digest import as_hex
from cl_lightning.data.sources.image_formats import EXTENSIONS, suffix

FORMAT = 1
INDEX = "index.json"
PIXELS = "pixels.safetensors"
FILES = "files"


@dataclass(frozen=True, eq=False)
class ExemplarStore:
    """The learnt tasks of a run: their classes, and some of their training images."""

    source: ArraySource | FolderSource
    """Source with the run's global labels and the names of all learnt classes."""
    sizes: tuple[int, ...]
    """Number of classes of each task."""
    image_size: int
    channels: int
    fingerprints: tuple[str, ...]
    """Fingerprints of the training images: of the data set, then of each folder learnt since."""

    identities: tuple[Identity | None, ...] = ()
    """Identity by content (:mod:`~cl_lightning.data.scenarios.image_identity`) of each of ``fingerprints``; None:
    unknown.
    """

    def __post_init__(self) -> None:
        if not self.identities:
            object.__setattr__(self, "identities", (None,) * len(self.fingerprints))
        if len(self.identities) != len(self.fingerprints):
            raise ValueError(f"{len(self.identities)} identities are not one beside each of {len(self.fingerprints)}")
        if sum(self.sizes) != len(self.source.class_names):
            raise ValueError(f"tasks of {sum(self.sizes)} classes have {len(self.source.class_names)} class names")

    def holds(self, keys: Mapping[int | str, int]) -> bool:
        """Return True if all these images are stored, under these labels."""
        mine = {self.source.key(row): label for row, label in enumerate(self.source.labels.tolist())}
        return all(mine.get(key) == label for key, label in keys.items())


def write_kept(folder: Path, store: ExemplarStore) -> None:
    """Write ``folder``, which gets its name when it is complete.

    Raises:
        OSError: no space, no right to write, or a file of an image that cannot be read.
    """
    part = beside(folder)
    part.mkdir(parents=True)
    source = store.source
    if isinstance(source, ArraySource):
        stored = save({"pixels": source.pixels.contiguous().cpu()})
        replace_file(part / PIXELS, lambda file: file.write(stored))
        files = None
    else:
        (part / FILES).mkdir()
        files = [f"{row:06d}{_known(suffix(path))}" for row, path in enumerate(source.paths)]
        for path, name in zip(source.paths, files, strict=True):
            _copy(source.root / path, part / FILES / name)
    index = {
        "format": FORMAT,
        "class_names": list(source.class_names),
        "tasks": list(store.sizes),
        "image_size": store.image_size,
        "channels": store.channels,
        "fingerprints": list(store.fingerprints),
        "identities": list(store.identities),
        "keys": [source.key(row) for row in range(len(source))],
        "labels": source.labels.tolist(),
        "files": files,
        # Digests of files are those of the copies; pixels may have been made from files.
        "digests": as_hex(source.contents) if files is None else None,
        "upright": isinstance(source, FolderSource) and source.upright,
    }
    write_atomic(part / INDEX, json.dumps(index, indent=1) + "\n")
    part.rename(folder)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, and wait until it is on the disk: a checkpoint will rely on it."""
    with source.open("rb") as stream, target.open("xb") as file:
        shutil.copyfileobj(stream, file)
        file.flush()
        os.fsync(file.fileno())


def _known(end: str) -> str:
    """Return a suffix if it is one of images, else nothing: the content of other files decides."""
    return end if end in EXTENSIONS else ""
