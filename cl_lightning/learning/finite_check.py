"""Check that weights, state and scores are finite, before a phase, or an item of a plan, counts as done.

Within a phase losses and gradients are watched (``non_finite.py``), where a step is judged by the next one. The last
step has no next one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_STATISTICS = ("running_mean", "running_var")
"""Buffers that training updates, by torch's own names. Others may contain infinities (masks)."""


@dataclass(frozen=True)
class Broken:
    """A tensor that is not finite, or so large that its square is not."""

    what: str
    value: float
    """The first value that is not finite, else the largest."""

    def __str__(self) -> str:
        return f"{self.what} is {self.value:g}"


def broken_network(network: nn.Module) -> Broken | None:
    """Return the first weight or buffer of ``network`` that is broken; None if all are finite.

    All norms are computed together, with one wait for the device. A weight of more than 1e19 is reported too: its
    product with another one is infinite.
    """
    named: dict[str, Tensor] = {f"the weight {name}": value for name, value in network.named_parameters()}
    for name, buffer in network.named_buffers():
        if name.rpartition(".")[2] in _STATISTICS:
            named[f"the statistic {name}"] = buffer
        elif buffer.is_floating_point():
            named[f"the buffer {name}"] = torch.where(buffer.isnan(), math.nan, 0.0)
    return broken_among(named)


def broken_among(named: Mapping[str, Tensor]) -> Broken | None:
    """Return the first of these tensors that is broken."""
    named = {name: value.detach() for name, value in named.items() if value.is_floating_point() and value.numel()}
    if not named:
        return None
    norms = torch.stack([norm.float() for norm in torch._foreach_norm(list(named.values()))])
    bad = (~norms.isfinite()).tolist()
    if True not in bad:
        return None
    name = list(named)[bad.index(True)]
    values = named[name].flatten()
    wrong = values[~values.isfinite()]
    return Broken(name, float(wrong[0] if len(wrong) else values[values.abs().argmax()]))


def broken_state(state: Any, name: str) -> Broken | None:
    """Return the first tensor in a state of plain values that is broken."""
    return broken_among(dict(_tensors(state, name)))


def _tensors(state: Any, name: str) -> Iterable[tuple[str, Tensor]]:
    if isinstance(state, Tensor):
        yield f"the {name.replace('_', ' ')}", state
    elif isinstance(state, dict):
        for key, value in state.items():
            yield from _tensors(value, str(key))
    elif isinstance(state, list | tuple):
        for number, value in enumerate(state):
            yield from _tensors(value, f"{name} {number}")


class ScoresCheck:
    """Check of the scores of an evaluation, batch by batch, without waiting for the device."""

    def __init__(self) -> None:
        self._finite: dict[str, Tensor] = {}

    def look(self, scores: Mapping[str, Tensor]) -> None:
        """Record whether the scores (B, C) of each read-out are finite."""
        for name, values in scores.items():
            finite = values.isfinite().all()
            self._finite[name] = self._finite[name] & finite if name in self._finite else finite

    def broken(self) -> list[str]:
        """Return the read-outs with a score that is not finite; waits for the device."""
        return [name for name, finite in self._finite.items() if not finite]
