"""Records of what a run has done, kept in its state and shown in its results."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskRecord:
    """The facts of a finished task that a run reports beside its counts."""

    index: int
    classes: tuple[int, ...]
    """Global labels."""
    names: tuple[str, ...]
    seconds: float
    """Wall time of the task, training and evaluation."""
    images_per_second: float
    """Training throughput."""
    parameters: int
    """Number of parameters of the network after the task."""
    multiply_adds: int | None = None
    """Multiply-adds of an image through the network, with the scores of all classes seen; None in runs from before it
    was counted.
    """
    peak_memory: int | None = None
    """Largest resident set of a process of the run by then, in bytes."""
    peak_gpu_memory: int | None = None
    """Most bytes of tensors on a GPU of the run by then; None without a GPU."""


@dataclass(frozen=True)
class PhaseRecord:
    """The cost of one phase of a task."""

    task: int
    phase: str
    steps: int
    """Optimiser steps."""
    images: int
    """Images trained on since the phase was last resumed; ``seconds`` counts from there too."""
    seconds: float
