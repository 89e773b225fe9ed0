"""The rule of early stopping, and what is known of a phase that it may end: plain data, part of a phase's checkpoint.

``monitor``, ``patience`` and ``min_delta`` mean what they do for Lightning's ``EarlyStopping``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from cl_lightning.core.types import Plain

ACCURACY, LOSS = "accuracy", "loss"


@dataclass(frozen=True)
class StoppingRule:
    """The rule by which a phase ends early."""

    monitor: str
    """``accuracy`` (the higher the better, in [0, 1]) or ``loss``."""
    patience: int
    """Number of checks in a row without an improvement after which the phase ends, at least 1."""
    min_delta: float = 0.0
    """Least change that is an improvement: it must be exceeded."""

    def improves(self, value: float, best: float) -> bool:
        """Return whether ``value`` is better than the best before."""
        return value > best + self.min_delta if self.monitor == ACCURACY else value < best - self.min_delta


@dataclass
class StoppingState:
    """The checks of a phase so far, and the best network."""

    checks: int = 0
    best: float | None = None
    best_check: int = 0
    """Number of the check, from 1, that found it: its epoch."""
    latest: float | None = None
    weights: dict[str, Tensor] = field(default_factory=dict)
    """State of the network then, on the CPU, without what is settled: a phase does not change that."""

    @property
    def waited(self) -> int:
        """Number of checks since the best one."""
        return self.checks - self.best_check

    def add(self, value: float, rule: StoppingRule, weights: Callable[[], dict[str, Tensor]]) -> None:
        """Count a check; keep the ``weights`` of the network if it is the best so far."""
        self.checks += 1
        self.latest = value
        if self.best is None or rule.improves(value, self.best):
            self.best, self.best_check, self.weights = value, self.checks, weights()

    def to_plain(self) -> Plain:
        """Return plain values and tensors."""
        return dict(vars(self))

    @classmethod
    def from_plain(cls, plain: Plain) -> StoppingState:
        """Invert :meth:`to_plain`."""
        return cls(**plain)
