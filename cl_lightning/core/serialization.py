"""Tensors and plain values as safetensors and JSON, in which no code can hide, and back again."""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from cl_lightning.core.json_schema import read_json
from cl_lightning.core.types import Plain


def encode(value: Plain) -> tuple[bytes, bytes]:
    """Return JSON and safetensors of a value made of dicts, lists, tuples, tensors, numbers, text and None.

    Raises:
        TypeError: the value holds anything else.
    """
    tensors: dict[str, Tensor] = {}
    tree = _tree(value, tensors)
    return json.dumps(tree, allow_nan=False).encode(), save(tensors)


def decode(text: bytes, stored: bytes) -> Plain:
    """Invert :func:`encode`. Raises ``ValueError`` for bytes that it has not written."""
    try:
        tensors, used = load(stored), set[str]()
        value = _value(read_json(text, "state.json"), tensors, used)
    except (KeyError, TypeError, SafetensorError, RecursionError) as error:
        raise ValueError(f"its state is not what was stored: {type(error).__name__}: {error}") from error
    if len(used) < len(tensors):
        raise ValueError(f"its state leaves out {len(tensors) - len(used)} tensors")
    return value


def _tree(value: Plain, tensors: dict[str, Tensor]) -> Any:
    """Return containers as ``{"kind": [...]}``: JSON knows neither tuples nor keys that are numbers."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"float": repr(value)}
        case Tensor():
            name = str(len(tensors))
            # A copy: the format stores no strides and no memory that two tensors share.
            tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
            return {"tensor": name}
        case dict():
            return {"dict": [[_tree(key, tensors), _tree(item, tensors)] for key, item in value.items()]}
        case list():
            return {"list": [_tree(item, tensors) for item in value]}
        case tuple():
            return {"tuple": [_tree(item, tensors) for item in value]}
    raise TypeError(f"a {type(value).__name__} cannot be stored as tensors and plain values")


def _value(tree: Any, tensors: dict[str, Tensor], used: set[str]) -> Plain:
    """Return the value of a tree; raise ``KeyError``, ``TypeError`` or ``ValueError`` for one that is not ours."""
    if not isinstance(tree, dict):
        if isinstance(tree, list):
            raise TypeError("a bare list")
        return tree
    if len(tree) != 1:
        raise TypeError(f"a mapping of {len(tree)} names")
    ((kind, content),) = tree.items()
    if kind in ("tensor", "float"):
        if not isinstance(content, str):
            raise TypeError(f"a {kind} that is no text")
        if kind == "float":
            return _not_finite(content)
        if content in used:
            raise TypeError(f"tensor {content} stands twice")
        used.add(content)
        return tensors[content]
    if not isinstance(content, list):
        raise TypeError(f"a {kind} that is no list")
    if kind == "dict":
        return _mapping(content, tensors, used)
    values = [_value(item, tensors, used) for item in content]
    if kind not in ("list", "tuple"):
        raise KeyError(str(kind)[:40])
    return values if kind == "list" else tuple(values)


def _not_finite(text: str) -> float:
    values = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
    if text not in values:
        raise TypeError("a float that JSON has")
    return values[text]


def _mapping(pairs: list[Any], tensors: dict[str, Tensor], used: set[str]) -> dict[Any, Plain]:
    mapping: dict[Any, Plain] = {}
    for pair in pairs:
        if not isinstance(pair, list) or len(pair) != 2:
            raise TypeError("a mapping whose entries are no pairs")
        key = _value(pair[0], tensors, used)
        if not isinstance(key, str | int | float | bool | tuple | None):
            raise TypeError(f"a {type(key).__name__} as a key")
        if key in mapping:
            raise TypeError("a key stands twice in one place")
        mapping[key] = _value(pair[1], tensors, used)
    return mapping
