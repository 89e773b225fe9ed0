"""The events that a replay reports while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """The terms of one pass, in the order of ``TERMS``; not a number where there is no such term."""

    each: Tensor
    """(replicas, 3), of each replica's images."""
    whole: Tensor
    """(3,), of all of them: what is trained on."""


@dataclass(frozen=True)
class Step:
    """One optimiser step of ours."""

    index: int
    epoch: int
    rows: Tensor
    """(B,) training rows, replica after replica."""
    rate: float
    """Learning rate."""
    passes: tuple[Loss, ...]
    """One, or two where the step is sharpness-aware."""


@dataclass(frozen=True)
class Evaluation:
    """The evaluation after a task."""

    answers: Tensor
    """(n,) classes, of all test images of the classes seen, by row."""
    accuracies: list[float | None]
    """In [0, 1], on each task so far."""
    seen: float | None
    """In [0, 1], on all of them."""
    probe_logits: Tensor
    """(m, C) scores of the probe's images."""


class Observer(Protocol):
    """A receiver of events; its exceptions end the run."""

    def on_step(self, task: int, phase: str, step: Step) -> None:
        """Receive a step."""

    def on_phase_end(self, task: int, phase: str, weights: dict[str, Tensor]) -> None:
        """Receive the weights after a phase, by the file's names."""

    def on_memory(self, task: int, exemplars: dict[int, Tensor]) -> None:
        """Receive the exemplars chosen: class -> rows by rank."""

    def on_evaluation(self, task: int, found: Evaluation) -> None:
        """Receive the evaluation after a task."""

    def on_end(self, weights: dict[str, Tensor]) -> None:
        """Receive the weights after the last task of the file."""
