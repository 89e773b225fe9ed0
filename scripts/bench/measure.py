"""Paired timings, and the rows of the table."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

Work = Callable[[], object]
_LEAST = 0.05
"""Least seconds between two waits for a GPU."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a ratio and its target."""

    name: str
    value: float | None
    """Ratio; ``None``: not measured here, ``detail`` has the reason."""
    at_least: float | None = None
    at_most: float | None = None
    detail: str = ""
    failed: bool = False
    """True if measuring it ended in an error."""

    @property
    def verdict(self) -> str:
        """Verdict: ``met``, ``missed``, ``failed``, or a dash where there is no target or no value."""
        if self.failed:
            return "failed"
        if self.value is None or (self.at_least is None and self.at_most is None):
            return "-"
        met = self.value >= (self.at_least or 0.0) and self.value <= (self.at_most or float("inf"))
        return "met" if met else "missed"

    @property
    def target(self) -> str:
        """Target as text."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return "" if self.at_most is None else f"at most {self.at_most:g}"


@dataclass(frozen=True)
class Pairs:
    """Timings of two functions, called in turn."""

    first: list[float]
    second: list[float]

    @property
    def ratio(self) -> float:
        """Median of first / second over the pairs: what slows a machine for a while slows both."""
        return statistics.median(a / b for a, b in zip(self.first, self.second, strict=True))

    def milliseconds(self) -> str:
        """Return both medians as text."""
        return f"{1e3 * statistics.median(self.first):.1f} / {1e3 * statistics.median(self.second):.1f} ms"


def seconds(work: Work, device: str = "cpu") -> float:
    """Time ``work``, the device's part included; on a GPU the mean of as many calls as fill a twentieth of a
    second, so that starting the first and waiting for the last does not count.
    """
    taken = _timed(work, 1, device)
    if device != "cuda" or taken >= _LEAST:
        return taken
    times = math.ceil(_LEAST / taken)
    return _timed(work, times, device) / times


def _timed(work: Work, times: int, device: str) -> float:
    wait_for(device)
    started = time.perf_counter()
    for _ in range(times):
        work()
    wait_for(device)
    return time.perf_counter() - started


def paired(first: Work, second: Work, pairs: int, device: str = "cpu", warm: bool = True) -> Pairs:
    """Time both in turn, ``pairs`` times, after one call of each that does not count."""
    if warm:
        first(), second()
    timings = [(seconds(first, device), seconds(second, device)) for _ in range(pairs)]
    return Pairs([a for a, _ in timings], [b for _, b in timings])


def wait_for(device: str) -> None:
    """Wait until the device has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
