"""References from a checkpoint to parts of a network that are files of their own.

What cannot change any more is written once, into a folder beside the checkpoints, under the digest of its contents. In
a checkpoint the entry of a network then has ``parts``: the beginning of the names of a part's weights -> its digest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.types import Plain

FOLDER = "parts"
"""Folder of the parts, in that of the checkpoints."""
REFERENCES = "parts"
"""Key of the references in the entry of a network."""
NETWORKS = ("network", "teacher")
"""Keys of the networks in a checkpoint."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


def digest_of(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, shapes, types and numbers, in hexadecimal digits: the name of a part."""
    whole = hashlib.sha256()
    for name, value in weights.items():
        whole.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        whole.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


def file_of(folder: Path, digest: str) -> Path:
    """Return the file of a part in the folder of the parts."""
    return folder / f"{digest}.pt"


def is_part(file: Path) -> bool:
    """Return True for the name of a part's file."""
    return file.suffix == ".pt" and _DIGEST.fullmatch(file.stem) is not None


def content_of(digest: str, weights: Mapping[str, Tensor]) -> dict[str, Plain]:
    """Return what the file of a part holds: its own name too, so that one part is not taken for another."""
    return {"part": digest, "weights": dict(weights)}


def weights_of(content: Any, digest: str) -> dict[str, Tensor]:
    """Invert :func:`content_of`. Raises ``ValueError`` for anything else than that part."""
    if not isinstance(content, Mapping) or content.get("part") != digest:
        raise ValueError("it is not the part of that name")
    weights = content.get("weights")
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError("it holds no weights by name")
    return dict(weights)


def references(payload: Mapping[str, Any]) -> set[str]:
    """Return the digests of the parts that a checkpoint refers to. Raises ``InvalidFileError`` for other references."""
    return {digest for name in NETWORKS for digest in _references_of(payload.get(name)).values()}


def joined(payload: Mapping[str, Any], read: Callable[[str], Mapping[str, Tensor]]) -> dict[str, Any]:
    """Return a checkpoint with the weights of its parts in place of the references; ``read`` returns those of a digest.

    Raises ``InvalidFileError`` for references of another form, or to weights that are in the checkpoint too.
    """
    parts = {digest: read(digest) for digest in sorted(references(payload))}
    return {
        **payload,
        **{name: _joined(payload[name], parts) for name in NETWORKS if _references_of(payload.get(name))},
    }


def _joined(network: Mapping[str, Any], parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Any]:
    weights = dict(network["weights"])
    for beginning, digest in network[REFERENCES].items():
        found = {f"{beginning}{name}": value for name, value in parts[digest].items()}
        if twice := found.keys() & weights.keys():
            raise InvalidFileError("a network in the checkpoint", f"has {min(twice)} twice")
        weights |= found
    return {**{key: value for key, value in network.items() if key != REFERENCES}, "weights": weights}


def _references_of(network: Any) -> Mapping[str, str]:
    """Return beginning of names -> digest; a digest becomes a file's name, so it must be one."""
    if not isinstance(network, Mapping) or REFERENCES not in network:
        return {}
    found = network[REFERENCES]
    if not isinstance(network.get("weights"), Mapping) or not isinstance(found, Mapping):
        raise InvalidFileError("a network in the checkpoint", "does not refer to its parts as this program does it")
    for beginning, digest in found.items():
        if not (isinstance(beginning, str) and isinstance(digest, str) and _DIGEST.fullmatch(digest)):
            raise InvalidFileError("a network in the checkpoint", f"refers to a part {str(digest)[:80]!a}")
    return found
