"""What happens beside the steps of a phase: display, curves, and the places where it can be left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from cl_lightning.core.types import PhaseCheckpoint
from cl_lightning.distributed.process_group import ProcessGroup
from cl_lightning.learning.display import Display
from cl_lightning.learning.learner import Learner, StepMetrics
from cl_lightning.learning.loggers import Curves


class ProgressCallback(Callback):
    """Advances the display at each step, and logs the points of the curves when they have come from the device."""

    def __init__(self, display: Display, curves: Curves, processes: ProcessGroup) -> None:
        self._display = display
        self._curves = curves
        self._processes = processes

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Ask to be told of points."""
        assert isinstance(pl_module, Learner)
        learner = pl_module
        learner.report = lambda point: self._log(learner, point)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Count the step."""
        assert isinstance(pl_module, Learner)
        batch = args[1]
        self._display.advance(len(batch.labels) * self._processes.world_size, pl_module.steps_done)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Wait for the points that are still under way."""
        assert isinstance(pl_module, Learner)
        pl_module.check_finite(wait=True)

    def _log(self, learner: Learner, point: StepMetrics) -> None:
        losses = {f"loss/{name}": value for name, value in point.terms.items()}
        place = {"task": learner.task.index, "epoch": learner.length.epoch_of(point.step)}
        total = sum(point.terms.values())
        self._curves.log(
            {**losses, "loss/total": total, "lr": point.lr, **point.monitored_scalars, **place}, point.step
        )


class CheckpointHook(Protocol):
    """Who decides whether the run is left, or its state kept in a file, after a step or an item of the plan."""

    def after_item(self) -> None:
        """An item of the plan, the evaluation after a phase, or a whole task is finished. May raise
        ``StoppedError``.
        """
        ...

    def after_step(self, steps: int, leave: Callable[[], PhaseCheckpoint]) -> None:
        """``steps`` of the phase are done; ``leave`` gives what is needed to go on, and waits for the device. May raise
        ``StoppedError``.
        """
        ...

    def raise_if_stopped(self) -> None:
        """Between two batches of something that will be done anew. May raise ``StoppedError``."""
        ...


class CheckpointCallback(Callback):
    """Offers every step but the last as a place where the phase can be left: after that one it is over anyway."""

    def __init__(self, leaving: CheckpointHook) -> None:
        self._leaving = leaving

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """After the step has been logged."""
        assert isinstance(pl_module, Learner)
        if pl_module.steps_done < pl_module.length.total_steps:
            self._leaving.after_step(pl_module.steps_done, pl_module.leave)
