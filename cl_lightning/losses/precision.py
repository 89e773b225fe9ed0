"""The number format in which losses are computed, whatever the network computes in."""

from __future__ import annotations

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """Return ``values`` in float32, or in float64 where they are float64: sums over classes need more than half
    precision.
    """
    return values if values.dtype == torch.float64 else values.float()
