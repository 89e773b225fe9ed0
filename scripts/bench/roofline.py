"""The roofline of a step: operations and bytes counted, both ceilings of the machine measured.

Each operator of the step (forward, backward, optimiser) takes at least its floating-point operations over the rate of
large matrix products, and at least the bytes it reads and writes over the rate of a large copy. The sum of the larger
of the two is the step's floor for kernels that each do one operator: fusing them may go below what is counted in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, register_flop_formula

import cl_lightning.models.gated_attention_op
import cl_lightning.models.token_attention_op  # noqa: F401 (both define the operators that are counted below)
from scripts.bench.measure import Row, seconds

_VIEWS = frozenset({
    "view", "_unsafe_view", "t", "transpose", "permute", "expand", "slice", "select", "unsqueeze", "squeeze", "detach",
    "as_strided", "split", "split_with_sizes", "chunk", "unbind", "alias", "reshape",
})  # fmt: skip


@register_flop_formula(torch.ops.cl_lightning.gated_attention)
def _gated(qk: Any, v: Any, position: Any, gate: Any, *_: Any, **__: Any) -> int:
    """Count the products of scores and of values."""
    return 2 * 2 * v[0] * v[1] ** 2 * v[2]


@register_flop_formula(torch.ops.cl_lightning.gated_attention_backward)
def _gated_backward(qk: Any, v: Any, *_: Any, **__: Any) -> int:
    """Count the scores again, and a gradient each of weights, values, queries and keys."""
    return 5 * 2 * v[0] * v[1] ** 2 * v[2]


@register_flop_formula(torch.ops.cl_lightning.token_attention)
def _asked(q: Any, own_k: Any, own_v: Any, k: Any, *_: Any, **__: Any) -> int:
    return 2 * 2 * q[0] * k[0] * k[1] * k[2]


@register_flop_formula(torch.ops.cl_lightning.token_attention_backward)
def _asked_backward(q: Any, own_k: Any, own_v: Any, k: Any, *_: Any, **__: Any) -> int:
    return 5 * 2 * q[0] * k[0] * k[1] * k[2]


class Count(TorchDispatchMode):
    """The sum of operations and bytes of all operators within the block, and the floor of their times."""

    def __init__(self, flops_a_second: float, bytes_a_second: float) -> None:
        super().__init__()
        self._rates = flops_a_second, bytes_a_second
        self.flops = self.bytes = 0
        self.floor = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if packet.__name__ not in _VIEWS:
            counted = flop_registry.get(packet)
            flops = int(counted(*args, **(kwargs or {}), out_val=out)) if counted else 0
            moved = sum(t.numel() * t.element_size() for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor))
            self.flops += flops
            self.bytes += moved
            self.floor += max(flops / self._rates[0], moved / self._rates[1])
        return out


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Measure floating-point operations a second in large matrix products."""
    size = 8192 if device == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / _best(lambda: a @ b, device)


def copy_rate(device: str) -> float:
    """Measure bytes a second, read and written, of a large copy."""
    source = torch.zeros(1 << (28 if device == "cuda" else 26), device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / _best(lambda: target.copy_(source), device)


def _best(work: Callable[[], object], device: str) -> float:
    work()
    return min(seconds(work, device) for _ in range(10))


def against_roofline(
    name: str, step: Callable[[], object], measured: Callable[[], object], device: str, dtype: torch.dtype,
    at_least: float | None,
) -> Row:  # fmt: skip
    """Return the share of the floor in the time of ``measured``; ``step`` is the same step uncompiled, for counting."""
    flops_a_second, bytes_a_second = matrix_rate(device, dtype), copy_rate(device)
    with Count(flops_a_second, bytes_a_second) as counted:
        step()
    taken = _best(measured, device)
    detail = (
        f"{1e3 * taken:.2f} ms, floor {1e3 * counted.floor:.2f} ms; {counted.flops / 1e9:.1f} GFLOP, "
        f"{counted.bytes / 1e9:.2f} GB; ceilings {flops_a_second / 1e12:.3g} TFLOP/s, {bytes_a_second / 1e9:.0f} GB/s; "
        f"{counted.flops / taken / flops_a_second:.0%} of the matrix products' ceiling"
    )
    return Row(name, counted.floor / taken, at_least=at_least, detail=detail)
