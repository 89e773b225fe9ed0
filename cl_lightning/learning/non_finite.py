"""Guard against non-finite losses and gradients, without waiting for the device.

A step whose loss or gradient is not finite must not be applied, and reading a loss means waiting for it. So the verdict
stays on the device: the loss is multiplied by one or by NaN (which makes the gradient NaN in every process that shares
it), and the optimiser is told to skip its step by the flag that it has for mixed precision. From then on no step is
applied. The host reads copies that have arrived, and stops the run a few steps later.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_FARTHEST = 32
"""Steps that the host may be ahead of the values that it has read."""


@dataclass(frozen=True)
class _Sent:
    step: int
    names: tuple[str, ...]
    values: Tensor
    """(len(names),) on the host, valid once ``arrived``."""
    arrived: torch.cuda.Event | None

    def has_arrived(self) -> bool:
        return self.arrived is None or self.arrived.query()


class NonFiniteGuard:
    """Guard that keeps non-finite steps from the weights, and reports them."""

    def __init__(self) -> None:
        self._bad: Tensor | None = None
        self._pending: deque[_Sent] = deque()

    def poison(self, total: Tensor) -> Tensor:
        """Return the loss for the backward pass: ``total`` itself, or NaN if it, or an earlier one, was not finite."""
        return total * torch.where(self._mark(~total.detach().isfinite()), math.nan, 1.0)

    def guard(self, optimiser: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> Tensor:
        """Let ``optimiser`` (a fused one) skip its next step if a gradient is not finite; return an upper bound of the
        gradients' norm.
        """
        grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = torch.stack(torch._foreach_norm(grads)).sum()
        optimiser.found_inf = self._mark(~norm.isfinite()).float()  # type: ignore[attr-defined]
        return norm

    def _mark(self, bad: Tensor) -> Tensor:
        if self._bad is None:
            self._bad = bad.clone()
        else:  # in place: a recorded step reads it at this address
            self._bad |= bad
        return self._bad

    def enqueue(self, step: int, names: Sequence[str], values: Tensor) -> None:
        """Send the values of ``names`` at ``step``, (len(names),), to the host; :meth:`arrived` yields them there."""
        values, arrived = values.detach(), None
        if values.is_cuda:
            host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            host.copy_(values, non_blocking=True)
            values, arrived = host, torch.cuda.Event()
            arrived.record()
        self._pending.append(_Sent(step, tuple(names), values, arrived))

    def arrived(self, *, wait: bool = False) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield steps and their values by name, of those that have arrived since; with ``wait``, of all."""
        while self._pending and (wait or self._pending[0].has_arrived() or len(self._pending) > _FARTHEST):
            sent = self._pending.popleft()
            if sent.arrived is not None:
                sent.arrived.synchronize()
            yield sent.step, dict(zip(sent.names, sent.values.tolist(), strict=True))
