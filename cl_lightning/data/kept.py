"""The images that a finished run remembers, kept as files of their own: all that learning one more task needs of old
training data.

``exemplars/`` holds ``index.json`` (classes, tasks, and key and label of each image) with the images beside it, so that
training sees what it saw before: pixels of arrays in ``pixels.safetensors``; of folders the files as they are in
``files/``, since random crops are cut from the whole picture.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from cl_lightning.atomic import beside, replace_file, write_atomic
from cl_lightning.data.contents import as_hex, from_hex
from cl_lightning.data.formats import EXTENSIONS, suffix
from cl_lightning.data.identity import Identity, read_identity
from cl_lightning.data.sources import ArraySource, FolderSource

FORMAT = 1
INDEX = "index.json"
PIXELS = "pixels.safetensors"
FILES = "files"


@dataclass(frozen=True, eq=False)
class Kept:
    """What is left of the tasks that a run has learnt: their classes, and some of their training images."""

    source: ArraySource | FolderSource
    """Its labels are the run's global labels, its class names those of all classes learnt."""
    sizes: tuple[int, ...]
    """Classes of each task."""
    image_size: int
    channels: int
    fingerprints: tuple[str, ...]
    """Of the training images that the tasks were learnt from: of the data set, then of each folder learnt since."""

    identities: tuple[Identity | None, ...] = ()
    """Beside ``fingerprints``: by content, see :mod:`~cl_lightning.data.identity`; None where it was not recorded."""

    def __post_init__(self) -> None:
        if not self.identities:
            object.__setattr__(self, "identities", (None,) * len(self.fingerprints))
        assert len(self.identities) == len(self.fingerprints), "there must be an identity beside each fingerprint"
        assert sum(self.sizes) == len(self.source.class_names), "the tasks must add up to the classes"

    def holds(self, keys: Mapping[int | str, int]) -> bool:
        """Whether all these images are here, under these labels."""
        mine = {self.source.key(row): label for row, label in enumerate(self.source.labels.tolist())}
        return all(mine.get(key) == label for key, label in keys.items())


def write_kept(folder: Path, kept: Kept) -> None:
    """Write ``folder``, which takes its name when all of it is there.

    Raises:
        OSError: no room, no right to write, or a file of an image that cannot be read.
    """
    part = beside(folder)
    part.mkdir(parents=True)
    source = kept.source
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
        "tasks": list(kept.sizes),
        "image_size": kept.image_size,
        "channels": kept.channels,
        "fingerprints": list(kept.fingerprints),
        "identities": list(kept.identities),
        "keys": [source.key(row) for row in range(len(source))],
        "labels": source.labels.tolist(),
        "files": files,
        # Of files, theirs; pixels may have been made from files.
        "digests": as_hex(source.contents) if files is None else None,
        "upright": isinstance(source, FolderSource) and source.upright,
    }
    write_atomic(part / INDEX, json.dumps(index, indent=1) + "\n")
    part.rename(folder)


def _copy(source: Path, target: Path) -> None:
    """The bytes of a file, on the disk when this returns: a checkpoint will rely on them."""
    with source.open("rb") as stream, target.open("xb") as file:
        shutil.copyfileobj(stream, file)
        file.flush()
        os.fsync(file.fileno())


def read_kept(folder: Path) -> Kept:
    """The inverse of :func:`write_kept`.

    Raises:
        ValueError: the folder is of another format, or not what was written.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            raise ValueError(f"{folder} has format {index['format']}, this program reads format {FORMAT}")
        return Kept(
            _source(folder, index),
            tuple(map(int, index["tasks"])),
            int(index["image_size"]),
            int(index["channels"]),
            tuple(map(str, index["fingerprints"])),
            tuple(map(read_identity, index.get("identities", ()))),  # earlier files of this format lack them
        )
    except (
        KeyError,
        TypeError,
        AttributeError,
        AssertionError,
        json.JSONDecodeError,
        SafetensorError,
        FileNotFoundError,
    ) as error:
        raise ValueError(
            f"{folder} is damaged ({type(error).__name__}: {error}): take it from a bundle again"
        ) from error


def _source(folder: Path, index: dict[str, Any]) -> ArraySource | FolderSource:
    name, names, keys = "exemplars", tuple(map(str, index["class_names"])), tuple(index["keys"])
    assert all(type(key) in (int, str) for key in keys), "keys are numbers or text"
    labels = torch.tensor(index["labels"], dtype=torch.int64)
    if index["files"] is None:
        pixels = load_file(folder / PIXELS)["pixels"]
        side = index["image_size"]
        assert pixels.shape[1:] == (index["channels"], side, side), "pixels of another size"
        return ArraySource(name, pixels, labels, names, keys, _digests(index.get("digests")))
    paths = tuple(f"{FILES}/{_plain_name(file)}" for file in index["files"])
    for path in paths:
        if not (folder / path).is_file():
            raise FileNotFoundError(f"{path} is missing")
    return FolderSource(name, folder, paths, labels, names, keys, upright=bool(index.get("upright", False)))


def _known(end: str) -> str:
    """A suffix if it is one of images; files of other names are known by what they hold."""
    return end if end in EXTENSIONS else ""


def _digests(stored: list[str] | None) -> Tensor | None:
    """Of images that earlier files of this format hold, none."""
    try:
        return None if stored is None else from_hex(stored)
    except ValueError as error:
        raise TypeError(str(error)) from error


def _plain_name(file: str) -> str:
    if not re.fullmatch(r"[0-9]{6,}(\.[a-z0-9]+)?", file):
        raise TypeError(f"{file!r} is no name of an image file")
    return file
