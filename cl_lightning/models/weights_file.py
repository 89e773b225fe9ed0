"""Files of a network's weights: read without running code, and compared with the network by names and shapes.

Errors name the argument that held the path, so that each option is told by its own name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.core.file_type import foreign_kind
from cl_lightning.core.network_parts import FOLDER, file_of, joined, references, weights_of

Weights = Mapping[str, Tensor]
"""Tensors by the names of a state dict."""

_WRAPPERS = ("model", "state_dict", "model_state_dict", "network", "weights")
"""Keys under which published files, and our checkpoints, hold the weights; one may lie within another."""


def read_weights(path: Path, argument: str = "path") -> dict[str, Tensor]:
    """Read a ``.safetensors`` file, or one of ``torch.save`` (tensors alone, never code).

    Raises ``ValueError`` where the file is missing, cannot be read, or holds something else.
    """
    if not path.is_file():
        raise InvalidSettingError(argument, path, "is no file", "FILE.safetensors or .pth")
    try:
        known = foreign_kind(path)
    except OSError as error:
        mend = "permit it, or take another file"
        raise InvalidSettingError(argument, path, f"cannot be read ({error.strerror})", mend=mend) from error
    if known:
        raise InvalidSettingError(argument, path, f"is {known}", "FILE, with the weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = _whole(torch.load(path, map_location="cpu", weights_only=True), path, argument)
    except InvalidSettingError:
        raise
    except Exception as error:  # readers raise almost anything for a file that is not theirs
        first = str(error).strip().split("\n")[0][:120]
        mend = "take a file of tensors, .safetensors or .pth"
        raise InvalidSettingError(argument, path, f"cannot be read ({first})", mend=mend) from error
    for name in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InvalidSettingError(argument, path, "holds no weights by name", mend="take a file of a state dict")
    return content


def _whole(content: Any, path: Path, argument: str) -> Any:
    """Return the content of a checkpoint of ours with the parts that it refers to; of another file, as it is."""
    if not isinstance(content, dict):
        return content
    folder = path.parent / FOLDER
    for digest in sorted(references(content)):
        if not (file := file_of(folder, digest)).is_file():
            reason = f"is not whole: its part {file.name} is missing"
            raise InvalidSettingError(argument, path, reason, mend=f"put it into {folder}")

    def read(digest: str) -> dict[str, Tensor]:
        return weights_of(torch.load(file_of(folder, digest), map_location="cpu", weights_only=True), digest)

    return joined(content, read)


def within(weights: Weights, prefixes: Sequence[str]) -> dict[str, Tensor]:
    """Return the part of the weights whose names begin with the first of the prefixes that any has, without it; all,
    where none has any.
    """
    for prefix in prefixes:
        part = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        if part:
            return part
    return dict(weights)


def fitting(weights: Weights, module: nn.Module, path: Path, argument: str = "path") -> dict[str, Tensor]:
    """Return ``weights``, read from ``path``, in the order of ``module``.

    Raises ``ValueError`` where names or shapes are not those of the module.
    """
    wanted = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in weights.items()}
    odd = sorted(key for key in wanted.keys() | given.keys() if wanted.get(key) != given.get(key))
    if odd:
        here, there = (str(list(shapes[odd[0]])) if odd[0] in shapes else "none" for shapes in (wanted, given))
        reason = f"is not of this model: {odd[0]} is {there} there and {here} here ({len(odd)} differ)"
        mend = "take the model that it is of (its kind, name, patch size and image size)"
        raise InvalidSettingError(argument, path, reason, mend=mend)
    return {key: weights[key] for key in wanted}


def not_to_be_had(name: str, error: Exception, instead: str) -> InvalidSettingError:
    """Return the refusal of timm's weights of ``name`` after an ``error``: each library on the way has errors of its
    own. ``instead`` is the argument that takes a file.
    """
    first = str(error).strip().split("\n")[0][:120]
    reason = f": timm's weights of {name} are not to be had ({first})"
    return InvalidSettingError("pretrained", True, reason, {instead: "FILE"}, "go on where there is a network")
