"""What happens beside the steps of a phase: display, curves, and a look at whether the loss is still a number."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from cl_lightning.learning.display import Display
from cl_lightning.learning.learner import Learner
from cl_lightning.learning.loggers import Curves


class Monitor(Callback):
    """Advances the display at each step; reads the loss terms from the device every ``every`` steps only."""

    def __init__(self, display: Display, curves: Curves, every: int) -> None:
        self._display = display
        self._curves = curves
        self._every = every

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        """Count the step; now and then log it."""
        assert isinstance(pl_module, Learner)
        batch = args[1]
        self._display.advance(len(batch.labels), pl_module.steps_done)
        if pl_module.steps_done % self._every == 0:
            self._log(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the last step, whatever its number."""
        assert isinstance(pl_module, Learner)
        if pl_module.steps_done % self._every:
            self._log(pl_module)

    def _log(self, learner: Learner) -> None:
        names = list(learner.terms)
        values = torch.stack([learner.terms[name] for name in names]).tolist()
        where = f"task {learner.task.index + 1}, phase {learner.phase.name}, step {learner.steps_done}"
        for name, value in zip(names, values, strict=True):
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"the {name} loss is {value} at {where}: "
                    f"lower method.{learner.phase.name}.lr={learner.phase.optimiser.lr:g} or lr_scale"
                )
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
