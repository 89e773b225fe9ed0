"""Lightning callbacks of a phase: display, curves, and the steps after which it can be saved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from cl_lightning.core.types import PhaseCheckpoint
from cl_lightning.distributed.process_group import ProcessGroup
from cl_lightning.learning.display import Display
from cl_lightning.learning.lightning_module import Learner, StepMetrics
from cl_lightning.learning.loggers import Curves


class ProgressCallback(Callback):
    """Callback that advances the display at each step, and logs the points of the curves when they have arrived."""

    def __init__(self, display: Display, curves: Curves, processes: ProcessGroup) -> None:
        self._display = display
        self._curves = curves
        self._processes = processes

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Subscribe to the points of the curves."""
        assert isinstance(pl_module, Learner)
        learner = pl_module
        learner.report = lambda point: self._log(learner, point)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Count the step."""
        assert isinstance(pl_module, Learner)
        batch = args[1]
        self._display.advance(len(batch.labels) * self._processes.world_size, pl_module.steps_done)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait for the points that have not arrived yet."""
        assert isinstance(pl_module, Learner)
        pl_module.check_finite(wait=True)

    def _log(self, learner: Learner, point: StepMetrics) -> None:
        losses = {f"loss/{name}": value for name, value in point.terms.items()}
        position = {"task": learner.task.index, "epoch": learner.length.epoch_of(point.step)}
        total = sum(point.terms.values())
        self._curves.log(
            {**losses, "loss/total": total, "lr": point.lr, **point.monitored_scalars, **position}, point.step
        )


class CheckpointHook(Protocol):
    """Decision, after a step or an item of the plan, whether the state is saved and the run stopped."""

    def after_item(self) -> None:
        """Save the state: an item of the plan, the evaluation after a phase, or a whole task is finished. May raise
        ``StoppedError``.
        """
        ...

    def after_step(self, steps: int, leave: Callable[[], PhaseCheckpoint]) -> None:
        """Save or stop after ``steps`` of the phase if it is time; ``leave`` returns the state to resume from, and
        waits for the device. May raise ``StoppedError``.
        """
        ...

    def raise_if_stopped(self) -> None:
        """Raise ``StoppedError`` if a stop was requested, between two batches of work that a resumed run repeats."""
        ...


class CheckpointCallback(Callback):
    """Callback that offers every step but the last as a checkpoint: after that one the phase is over anyway."""

    def __init__(self, leaving: CheckpointHook) -> None:
        self._leaving = leaving

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Offer a checkpoint, after the step has been logged."""
        assert isinstance(pl_module, Learner)
        if pl_module.steps_done < pl_module.length.total_steps and not trainer.should_stop:
            self._leaving.after_step(pl_module.steps_done, pl_module.leave)
