"""Weights of older checkpoints, whose parameters had other names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn


def moved(old: str, new: str) -> Callable[..., None]:
    """A hook for ``register_load_state_dict_pre_hook``: what was called ``old``, or starts with it if it ends in a dot,
    is read as ``new``.
    """

    def rename(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
        before = prefix + old
        for name in [n for n in state if n == before or (old.endswith(".") and n.startswith(before))]:
            state[prefix + new + name.removeprefix(before)] = state.pop(name)

    return rename
