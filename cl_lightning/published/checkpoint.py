"""Checkpoints of the published DyTox, read without running anything from them.

Such a file pickles the namespace of the run's arguments beside the weights. That one class is allowed, by name;
whatever else a pickle asks for is refused, with its name.
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.file_type import foreign_kind


@dataclass(frozen=True)
class PublishedCheckpoint:
    """The parts of a checkpoint that we read: not optimiser, schedule and scaler."""

    weights: Mapping[str, Tensor]
    arguments: Mapping[str, Any] | None = None
    """Options of the run, where the file holds them."""
    progress: Mapping[str, int] = field(default_factory=dict)
    """``epoch`` and ``task_id``, where the file holds them."""


def read_checkpoint(path: Path) -> PublishedCheckpoint:
    """Read weights and arguments of a published checkpoint, or of a bare state dict.

    Raises:
        FileNotFoundError: no such file.
        ValueError: anything but a checkpoint; a pickle that asks for a class (which is named) other than
            ``argparse.Namespace``; a checkpoint of ours.
    """
    content = load_plain(path, also=(argparse.Namespace,))
    if "network" in content:
        raise InvalidFileError(
            path, f"is one of our own files, not a published checkpoint: type convert.py export {path} ..."
        )
    if "model" not in content:
        return PublishedCheckpoint(_weights(content, path))
    arguments = content.get("args")
    if isinstance(arguments, argparse.Namespace):
        arguments = vars(arguments)
    if not isinstance(arguments, Mapping | None):
        raise InvalidFileError(path, f": args are of type {type(arguments).__name__}, not an argparse.Namespace")
    progress = {name: content[name] for name in ("epoch", "task_id") if isinstance(content.get(name), int)}
    return PublishedCheckpoint(_weights(content["model"], path), arguments, progress)


def load_plain(path: Path, also: tuple[type, ...] = ()) -> dict[str, Any]:
    """Read the mapping that ``torch.save`` wrote: tensors and plain values, and objects of the classes ``also``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a mapping, or one that asks for another class; nothing of it has been executed.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} {'is a folder' if path.is_dir() else 'does not exist'}: type a checkpoint file"
        )
    try:
        with torch.serialization.safe_globals(list(also)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an old pickle protocol: what matters of it is refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError:
        raise
    except Exception as error:  # whatever unpickling meets in a file that is something else
        raise InvalidFileError(path, _refusal(path, error)) from error
    if not isinstance(content, dict):
        raise InvalidFileError(path, f"holds a {type(content).__name__}, not a checkpoint")
    return content


_FOREIGN = (
    r"GLOBAL (\S+) was not an allowed global",
    r"GLOBAL (\S+) whose module \S+ is blocked",
    r"unrecognized function (.+?)(?: which belongs|\n|$)",
    r"but got <class '(.+?)'>",
)
"""Patterns of torch's messages on what it refuses to import, call or build."""


def _refusal(path: Path, error: Exception) -> str:
    if isinstance(error, pickle.UnpicklingError):
        for pattern in _FOREIGN:
            if match := re.search(pattern, str(error)):
                allowed = "only tensors, plain values and an argparse.Namespace are taken from a checkpoint"
                return f"asks for {match[1]}: {allowed}; it was refused, nothing from it was executed"
    if known := foreign_kind(path):
        return f"is {known}: type a checkpoint file"
    kind = "an archive" if zipfile.is_zipfile(path) else "a file"
    return f"is {kind} that torch.load cannot read: not a checkpoint ({type(error).__name__})"


def _weights(model: object, path: Path) -> Mapping[str, Tensor]:
    if not isinstance(model, Mapping) or not model:
        raise InvalidFileError(
            path, f"holds no state dict: its model is {'empty' if model == {} else type(model).__name__}"
        )
    return model
