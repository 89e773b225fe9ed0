"""Mean, spread and interval of a few repeated measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

LEVEL = 0.95
"""Confidence level of the intervals."""


@dataclass(frozen=True)
class Spread:
    """A mean in % (or points) and its uncertainty."""

    mean: float
    std: float | None
    """Sample standard deviation; None for a single value."""
    count: int

    @property
    def half_width(self) -> float | None:
        """Half-width of the 95 % interval of the mean by Student's t; None for a single value."""
        if self.std is None:
            return None
        from scipy.special import stdtrit  # the quantile; scipy.stats takes seconds to import

        return float(stdtrit(self.count - 1, (1 + LEVEL) / 2)) * self.std / math.sqrt(self.count)


def spread(values: Sequence[float]) -> Spread:
    """Compute mean and sample standard deviation of at least one value."""
    return Spread(mean(values), stdev(values) if len(values) > 1 else None, len(values))
