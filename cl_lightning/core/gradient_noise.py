"""Noise on the gradient of a phase, as data (End-to-End, Castro et al. 2018; its size is that of the authors' code)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GradientNoise:
    """Normal noise on each element of the gradient."""

    scale: float
    """Standard deviation s of epoch 0, for the gradient summed over the images of a step, > 0."""
    power: float
    """Exponent p, at least 0: epoch e has s / (1 + e)^p."""
    first_epoch: int = 1
    """Number e of the phase's first epoch: a phase may go on where another one ended."""

    def deviation(self, epoch: int, images: int) -> float:
        """Return the deviation in the phase's ``epoch`` (from 0), for the mean gradient over ``images``."""
        return float(self.scale / (1 + self.first_epoch + epoch) ** self.power / images)
