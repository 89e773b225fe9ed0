"""What happens beside the steps of a phase: display, curves, and the places where it can be left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from cl_lightning.learning.display import Display
from cl_lightning.learning.learner import Learner
from cl_lightning.learning.loggers import Curves
from cl_lightning.learning.processes import Processes
from cl_lightning.types import Left


class Monitor(Callback):
    """Advances the display at each step; reads the loss terms from the device every ``every`` steps only."""

    def __init__(self, display: Display, curves: Curves, every: int, processes: Processes) -> None:
        self._display = display
        self._curves = curves
        self._every = every
        self._processes = processes

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Count the step; now and then log it."""
        assert isinstance(pl_module, Learner)
        batch = args[1]
        self._display.advance(len(batch.labels) * self._processes.world, pl_module.steps_done)
        if pl_module.steps_done % self._every == 0:
            self._log(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the last step, whatever its number."""
        assert isinstance(pl_module, Learner)
        if pl_module.steps_done % self._every:
            self._log(pl_module)

    def _log(self, learner: Learner) -> None:
        learner.check_finite(wait=True)  # reading the terms waits for the device in any case
        names = list(learner.terms)
        terms = torch.stack([learner.terms[name].float() for name in names])
        self._processes.average([terms])
        values = terms.tolist()
        losses = {f"loss/{name}": value for name, value in zip(names, values, strict=True)}
        progress = learner.progress
        self._curves.log(
            {
                **losses,
                "loss/total": sum(values),
                "lr": learner.lr,
                "task": learner.task.index,
                "epoch": progress.epoch,
            },
            learner.steps_done,
        )


class Leaving(Protocol):
    """Who decides whether a phase is left, or kept in a file, after a step."""

    def after_step(self, steps: int, leave: Callable[[], Left]) -> None:
        """``steps`` of the phase are done; ``leave`` gives what is needed to go on, and waits for the device. May raise
        ``StoppedError``.
        """
        ...

    def amidst(self) -> None:
        """Between two batches of something that will be done anew. May raise ``StoppedError``."""
        ...


class Keeper(Callback):
    """Offers every step but the last as a place where the phase can be left: after that one it is over anyway."""

    def __init__(self, leaving: Leaving) -> None:
        self._leaving = leaving

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """After the step has been logged."""
        assert isinstance(pl_module, Learner)
        if pl_module.steps_done < pl_module.length.total_steps:
            self._leaving.after_step(pl_module.steps_done, pl_module.leave)
