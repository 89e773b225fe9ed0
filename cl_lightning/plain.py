"""Tensors and plain values as safetensors and JSON, which nothing can hide code in, and back again."""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from cl_lightning.types import Plain


def encode(value: Plain) -> tuple[bytes, bytes]:
    """JSON and safetensors of a value made of dicts, lists, tuples, tensors, numbers, text and None.

    Raises:
        TypeError: something else is in it.
    """
    tensors: dict[str, Tensor] = {}
    tree = _tree(value, tensors)
    return json.dumps(tree, allow_nan=False).encode(), save(tensors)


def decode(text: bytes, stored: bytes) -> Plain:
    """The inverse of :func:`encode`. Raises ``ValueError`` for what it has not written."""
    try:
        return _value(json.loads(text), load(stored))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"not a stored state: {type(error).__name__}: {error}") from error


def _tree(value: Plain, tensors: dict[str, Tensor]) -> Any:
    """Containers as ``{"kind": [...]}``: JSON knows neither tuples nor keys that are numbers."""
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


def _value(tree: Any, tensors: dict[str, Tensor]) -> Plain:
    if not isinstance(tree, dict):
        if isinstance(tree, list):
            raise TypeError("a bare list")
        return tree
    ((kind, content),) = tree.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "float":
            return float(content)
        case "dict":
            return {_value(key, tensors): _value(item, tensors) for key, item in content}
        case "list":
            return [_value(item, tensors) for item in content]
        case "tuple":
            return tuple(_value(item, tensors) for item in content)
    raise KeyError(kind)
