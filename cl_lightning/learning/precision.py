"""Speed of half precision on this CPU: many have no units for it, and torch then computes it slowly without a
warning.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

_SIZE = 512
_TRIES = 3
_SLOWER = 1.5
"""Ratio to the time in float32 from which a warning is due: below that it may be noise."""


def slow_half_precision(precision: str, *, on_gpu: bool) -> list[str]:
    """Return a line for the user if ``precision`` makes this machine's matrix products slower than float32's, or
    none.
    """
    if on_gpu or precision != "bf16-mixed":
        return []
    ratio = product_seconds(torch.bfloat16) / product_seconds(torch.float32)
    if ratio < _SLOWER:
        return []
    return [
        f"trainer.precision=bf16-mixed is slow on this CPU: a product of matrices takes {ratio:.1f} times as long as "
        "in float32; trainer.precision=32-true is faster here"
    ]


def product_seconds(dtype: torch.dtype, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the best time of a few products of square matrices, in seconds; some milliseconds in all."""
    a = torch.ones(_SIZE, _SIZE, dtype=dtype)
    a @ a  # the first call initialises libraries
    best = float("inf")
    for _ in range(_TRIES):
        started = clock()
        a @ a
        best = min(best, clock() - started)
    return best
