"""Golden vectors: numbers that a published implementation computed, and the small models that they belong to.

A file is a NumPy archive (.npz). Entries of a model file: ``meta.json`` (sizes and hyper-parameters), ``x`` (images),
``task{t}/params/NAME`` (all parameters when task t starts training) and, by task, what was computed from them. A recipe
file has herding ranks, learning rates and sampling orders. Names of parameters are ``weights.GOLDEN`` for DyTox,
``weights.GOLDEN_DAFORMER`` for DAFormer.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.models.task_network import TaskNetwork
from cl_lightning.published.weights import GOLDEN, GOLDEN_DAFORMER, Names, import_network

META = "meta.json"


class VectorFile:
    """The entries of one file as tensors."""

    def __init__(self, path: Path) -> None:
        """Read all of ``path``.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not an archive of numbers; one line that names the entry.
        """
        self.path = path
        self._entries = _read(path)
        self.meta: dict[str, Any] = _meta(path, self._entries.get(META))

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> Tensor:
        """Return an entry; ``ValueError`` where it is missing or holds no numbers."""
        if name not in self._entries:
            raise InvalidFileError(name, f"is missing in {self.path}")
        entry = self._entries[name]
        if isinstance(entry, bytes) or entry.dtype.kind not in "biuf":
            raise InvalidFileError(name, f"holds no numbers in {self.path}")
        return torch.from_numpy(np.array(entry, dtype=entry.dtype.newbyteorder("=")))

    def texts(self, name: str) -> list[str]:
        """Return an entry of strings; ``ValueError`` where it is missing or holds something else."""
        if name not in self._entries:
            raise InvalidFileError(name, f"is missing in {self.path}")
        entry = self._entries[name]
        if isinstance(entry, bytes) or entry.dtype.kind != "U":
            raise InvalidFileError(name, f"holds no text in {self.path}")
        return [str(text) for text in entry.ravel()]

    @property
    def images(self) -> Tensor:
        """(B, channels, height, width): the batch that everything was computed on."""
        return self["x"]

    def names(self, prefix: str = "") -> list[str]:
        """Return the entries that start with ``prefix``, without it."""
        return [name.removeprefix(prefix) for name in self._entries if name.startswith(prefix)]

    def tasks(self) -> list[int]:
        """Return the tasks that the file has entries of, in order."""
        return sorted({int(found[1]) for name in self._entries if (found := re.match(r"task(\d+)/", name))})

    def folder(self, prefix: str) -> dict[str, Tensor]:
        """Return the entries under ``prefix``, by the rest of their names."""
        return {name: self[prefix + name] for name in self.names(prefix)}


def is_daformer(file: VectorFile) -> bool:
    """Return whether it is DAFormer's network: it states the variant, or has banks of keys."""
    return "variant" in file.meta or any("/key_banks." in name for name in file.names())


def names_in(file: VectorFile) -> Names:
    """Return the names that the parameters have."""
    return GOLDEN_DAFORMER if is_daformer(file) else GOLDEN


def rebuild(file: VectorFile, task: int) -> TaskNetwork:
    """Rebuild the network as it was when ``task`` started training, with whatever sizes its parameters have.

    ``ValueError`` names a parameter that is missing, too much or of another shape.
    """
    return import_network(file.folder(f"task{task}/params/"), names=names_in(file))


def _read(path: Path) -> dict[str, np.ndarray | bytes]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: type a .npz file")
    if not zipfile.is_zipfile(path):
        raise InvalidFileError(path, "is not a NumPy archive: type a .npz file of golden vectors")
    entries: dict[str, np.ndarray | bytes] = {}
    name = "the archive"
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                entries[name] = archive[name]
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
        reason = "pickled objects" if "pickle" in str(error) else "a damaged entry"
        raise InvalidFileError(name, f"cannot be read in {path}: {reason}") from error
    return entries


def _meta(path: Path, entry: np.ndarray | bytes | None) -> dict[str, Any]:
    if entry is None:
        return {}
    try:
        meta = json.loads(entry.decode() if isinstance(entry, bytes) else str(entry))
    except ValueError as error:
        raise InvalidFileError(META, f"in {path} is not JSON: {error}") from error
    if not isinstance(meta, dict):
        raise InvalidFileError(META, f"in {path} is not a mapping of names to sizes and hyper-parameters")
    return meta
