"""Parts of networks that lie in files of their own, beside the checkpoint that refers to them.

What cannot change any more is written once, as ``parts/DIGEST.pt``, and a checkpoint holds the digest in place of the
tensors (ADR 0035). The digest is of the tensors, not of the file, so a part that was changed, torn or exchanged is told
when it is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FOLDER = "parts"
"""Folder of the parts, beside the checkpoints."""
PARTS = "parts"
"""Key of a network's references: digest -> names of the tensors."""
HOLDERS = ("network", "teacher")
"""Keys of a checkpoint under which networks are."""


class PartError(Exception):
    """A part that is missing, or not as it was written."""


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, value in tensors.items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def part_file(folder: Path, digest: str) -> Path:
    """Return the file of a part of a checkpoint in ``folder``."""
    return folder / FOLDER / f"{digest}.pt"


def references(payload: Mapping[str, Any]) -> set[str]:
    """Return the digests that a checkpoint refers to."""
    held = [payload.get(holder) for holder in HOLDERS]
    return {digest for network in held if isinstance(network, dict) for digest in network.get(PARTS, {})}


def with_parts(payload: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return a checkpoint of ``folder`` with the tensors in the place of references, in the networks' order.

    Raises:
        PartError: a part is missing, or is not what is referred to.
    """
    whole = dict(payload)
    for holder in HOLDERS:
        network = payload.get(holder)
        if isinstance(network, dict) and PARTS in network:
            whole[holder] = _joined(network, folder)
    return whole


def _joined(network: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    found = dict(network["weights"])
    for digest, names in network[PARTS].items():
        part = _read(part_file(folder, digest))
        if set(part) != set(names) or digest_of(part) != digest:
            raise PartError(f"its part {FOLDER}/{digest}.pt is not as it was written")
        found |= part
    left = {key: value for key, value in network.items() if key not in ("weights", PARTS)}
    return {**left, "weights": found}


def _read(path: Path) -> dict[str, Tensor]:
    name = f"{FOLDER}/{path.name}"
    if not path.is_file():
        raise PartError(f"its part {name} is missing: it belongs into the folder {FOLDER} beside the checkpoint")
    try:
        part = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # any error of a reader that meets foreign bytes
        raise PartError(f"its part {name} cannot be read") from error
    if not isinstance(part, dict) or not all(isinstance(value, Tensor) for value in part.values()):
        raise PartError(f"its part {name} is not as it was written")
    return part
