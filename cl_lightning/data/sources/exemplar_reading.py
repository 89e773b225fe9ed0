"""Reading of an exemplar store from a folder that others may have written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.file_type import read_file
from cl_lightning.core.json_schema import boolean, either, list_of, mapping_of, maybe, read_json, record, text, whole
from cl_lightning.data.scenarios.image_identity import WORDS
from cl_lightning.data.sources.base import ArraySource, FolderSource
from cl_lightning.data.sources.content_digest import DIGEST_SIZE, from_hex
from cl_lightning.data.sources.exemplar_store import FILES, FORMAT, INDEX, PIXELS, ExemplarStore

_LARGEST_SIDE = 65_535
_NAME = re.compile(r"[0-9]{6,}(\.[a-z0-9]+)?")
_IDENTITY = record(
    {part: record({"digest": text, "images": mapping_of(whole())}) for part in WORDS}, optional=tuple(WORDS)
)


def _file_name(value: Any, where: str) -> None:
    if type(value) is not str or not _NAME.fullmatch(value):
        raise ValueError(f"{where} is {value!a}, no name of an image file"[:200])


def _digest(value: Any, where: str) -> None:
    if type(value) is not str or not re.fullmatch(f"[0-9a-f]{{{2 * DIGEST_SIZE}}}", value):
        raise ValueError(f"{where} is {value!a}, no digest"[:200])


_INDEX = record(
    {
        "format": whole(),
        "class_names": list_of(text),
        "tasks": list_of(whole(1)),
        "image_size": whole(1, _LARGEST_SIDE),
        "channels": whole(1, 4),
        "fingerprints": list_of(text),
        "identities": list_of(maybe(_IDENTITY)),
        "keys": list_of(either(whole(-(2**63), 2**63 - 1), text)),
        "labels": list_of(whole()),
        "files": maybe(list_of(_file_name)),
        "digests": maybe(list_of(_digest)),
        "upright": boolean,
    },
    optional=("identities", "digests", "upright"),  # earlier files of this format lack them
)


class OtherFormatError(InvalidFileError):
    """A folder that another version of the program has written."""


def read_exemplar_store(folder: Path) -> ExemplarStore:
    """Return the store that :func:`~cl_lightning.data.sources.exemplar_store.write_kept` wrote.

    Raises:
        ValueError: the folder is of another format, or damaged.
    """
    try:
        index = read_json(read_file(folder / INDEX), INDEX)
        record({"format": whole()}, more=True)(index, INDEX)
        if index["format"] != FORMAT:
            reason = f"has format {index['format']}, this program reads format {FORMAT}"
            raise OtherFormatError(folder, reason)
        _INDEX(index, INDEX)
        _check_names(index["class_names"])
        return ExemplarStore(
            _source(folder, index),
            tuple(index["tasks"]),
            index["image_size"],
            index["channels"],
            tuple(index["fingerprints"]),
            tuple(index.get("identities", ())),
        )
    except OtherFormatError:
        raise
    except (ValueError, SafetensorError, FileNotFoundError) as error:
        line = " ".join(str(error).split())
        raise InvalidFileError(folder, f"is damaged ({line})", "take it from a bundle again") from error


def _check_names(names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"{INDEX} has a class name twice")


def _source(folder: Path, index: dict[str, Any]) -> ArraySource | FolderSource:
    name, names, keys = "exemplars", tuple(index["class_names"]), tuple(index["keys"])
    labels = torch.tensor(index["labels"], dtype=torch.int64)
    if index["files"] is None:
        tensors = load_file(folder / PIXELS)
        if set(tensors) != {"pixels"}:
            raise ValueError(f"{PIXELS} holds {len(tensors)} tables, not pixels alone")
        pixels, side = tensors["pixels"], index["image_size"]
        if pixels.shape[1:] != (index["channels"], side, side):
            raise ValueError(f"{PIXELS} are {tuple(pixels.shape)}, not (n, {index['channels']}, {side}, {side})")
        if index.get("upright"):
            raise ValueError(f"{INDEX} turns pixels upright, which only files are")
        digests = index.get("digests")
        return ArraySource(name, pixels, labels, names, keys, None if digests is None else from_hex(digests))
    if len(set(index["files"])) < len(index["files"]):
        raise ValueError(f"{INDEX} has a file twice")
    paths = tuple(f"{FILES}/{file}" for file in index["files"])
    for path in paths:
        if not (folder / path).is_file():
            raise FileNotFoundError(f"{path} is missing")
    return FolderSource(name, folder, paths, labels, names, keys, upright=index.get("upright", False))
