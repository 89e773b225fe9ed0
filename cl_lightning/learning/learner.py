"""The LightningModule around a method: one phase of one task.

Optimisation is manual: a step is forward, backward, perhaps a second pass at the worst point nearby, and the optimiser.
A phase is one Lightning epoch, whatever number of epochs the recipe counts, so that a phase of fifty short epochs costs
fifty epochs of work and one of overhead, and a step number is all that has to be known to go on.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch import Tensor

from cl_lightning.data.loading import Images
from cl_lightning.data.mixup import mix_ratio, mixup, one_hot
from cl_lightning.learning.processes import ALONE, Processes
from cl_lightning.learning.replicas import losses_by_replica
from cl_lightning.learning.watch import Watch
from cl_lightning.methods.base import Method
from cl_lightning.models.network import branch_scales
from cl_lightning.models.replica_norm import running_statistics, set_replicas
from cl_lightning.optim.optimiser import base_rate, make_optimiser
from cl_lightning.optim.sam import ascend, descend
from cl_lightning.optim.schedule import learning_rate
from cl_lightning.rng import Key
from cl_lightning.types import Batch, Left, Phase, Progress, Task


@dataclass(frozen=True)
class Length:
    """How long a phase is."""

    steps_per_epoch: int
    epochs: int
    images_per_step: int
    """Of all replicas together: what a learning rate that follows the batch follows."""

    @property
    def total_steps(self) -> int:
        """Optimiser steps."""
        return self.steps_per_epoch * self.epochs


class Learner(pl.LightningModule):
    """Trains ``method`` for ``phase`` of ``task``."""

    def __init__(
        self,
        method: Method,
        task: Task,
        phase: Phase,
        length: Length,
        replicas: int,
        key: Key,
        *,
        processes: Processes = ALONE,
        left: Left | None = None,
    ) -> None:
        """``replicas`` are all virtual replicas of the run, of which ``processes`` says which are computed here."""
        super().__init__()
        self.automatic_optimization = False
        self.network = method.network
        self.method = method
        self.task = task
        self.phase = phase
        self.length = length
        self.replicas = processes.replicas(replicas)
        self.key = key
        self.steps_done = 0 if left is None else left.steps
        self.terms: dict[str, Tensor] = {}
        """The last step's loss terms, on the device: read them seldom."""
        self.lr = 0.0
        self._processes = processes
        self._left = left
        self._base_rate = base_rate(phase.optimiser, length.images_per_step)
        self._watch = Watch()
        set_replicas(self.network, len(self.replicas))
        self._trained = self._freeze()
        self._frozen_parts = frozenset() if phase.drop_path_in_frozen else frozenset(
            set(self.network.parts()) - set(phase.trains)
        )  # fmt: skip

    def _freeze(self) -> list[torch.nn.Parameter]:
        trained = []
        for name, parameters in self.network.parts().items():
            for parameter in parameters:
                parameter.requires_grad_(name in self.phase.trains)
                parameter.grad = None
                if name in self.phase.trains:
                    trained.append(parameter)
        assert trained, f"phase {self.phase.name} trains nothing of {list(self.network.parts())}"
        return trained

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """A new optimiser for the phase, over what it trains; the one that was left, where the phase goes on."""
        self._optimiser = make_optimiser(self.phase.optimiser, self._trained, self._base_rate)
        if self._left is not None:
            self._optimiser.load_state_dict(self._left.optimiser)
        return self._optimiser

    def on_fit_start(self) -> None:
        """Bring the teacher to the device: it is no part of this module, so nothing else does."""
        if self.method.teacher is not None:
            self.method.teacher.to(self.device)

    def on_train_start(self) -> None:
        """Set batch norm's mode, and give mixed precision back what it had."""
        self.method.train_mode(self.phase)
        self._statistics = running_statistics(self.network)
        if self._left is not None and self._left.precision:  # empty where another precision was used then
            self.trainer.precision_plugin.load_state_dict(self._left.precision)

    @property
    def progress(self) -> Progress:
        """Where the phase stands."""
        epoch = min(self.steps_done // self.length.steps_per_epoch, self.length.epochs - 1)
        return Progress(self.steps_done, self.length.total_steps, epoch, self.length.epochs)

    def leave(self) -> Left:
        """What is needed to go on after the last step; waits for the device.

        Raises:
            FloatingPointError: the last steps were not applied, so this is no place to go on from.
        """
        self.check_finite(wait=True)
        plugin = self.trainer.precision_plugin
        return Left(self.steps_done, self._optimiser.state_dict(), plugin.state_dict())

    def training_step(self, images: Images, batch_idx: int) -> None:
        """One optimiser step."""
        optimiser = self.optimizers(use_pl_optimizer=True)
        self.lr = learning_rate(self.phase.schedule, self._base_rate, images.epoch, self.length.epochs)
        for group in optimiser.param_groups:  # type: ignore[union-attr]
            group["lr"] = self.lr
        batch = self._mixed(images)
        optimiser.zero_grad()  # type: ignore[union-attr]
        self.terms = self._backward(batch, images, again=0)
        sharpness = self.phase.sharpness
        if sharpness is not None:
            moved = ascend(self._trained, sharpness.rho, sharpness.adaptive)
            optimiser.zero_grad()  # type: ignore[union-attr]
            self._backward(batch, images, again=1)
            descend(moved)
        watched = self._guard()
        optimiser.step()  # type: ignore[union-attr]
        self._processes.average(self._statistics)
        self.steps_done += 1
        self._watch.note(self.steps_done, watched)
        self.method.after_step(self.progress)
        self.check_finite()

    def _guard(self) -> dict[str, Tensor]:
        """Keep a bad step from being applied; returns what has to be finite. In half precision the gradient may
        overflow: its own machinery then skips the step and lowers its scale.
        """
        if getattr(self.trainer.precision_plugin, "scaler", None) is not None:
            return self.terms
        return {**self.terms, _GRADIENT: self._watch.guard(self._optimiser, self._trained)}

    def check_finite(self, *, wait: bool = False) -> None:
        """Raise ``FloatingPointError``, which names step and term, if a step was not applied because of it."""
        found = self._watch.look(wait=wait)
        if found is None:
            return
        step, name, value = found
        what = name if name == _GRADIENT else f"{name} loss"
        raise FloatingPointError(
            f"the {what} is {value} at task {self.task.index + 1}, phase {self.phase.name}, step {step}: "
            f"lower method.{self.phase.name}.lr={self.phase.optimiser.lr:g} or lr_scale"
        )

    def _mixed(self, images: Images) -> Batch:
        mixing, classes = self.phase.mixing, self.task.num_seen
        if mixing is None:
            return Batch(images.images, images.labels, one_hot(images.labels, classes))
        key = self.key.fold("mixup", self.steps_done)
        ratios = [mix_ratio(key.fold(replica), mixing.alpha) for replica in self.replicas]
        mixed, targets = mixup(images.images, one_hot(images.labels, classes, mixing.smoothing), ratios)
        return Batch(mixed, images.labels, targets)

    def _backward(self, batch: Batch, images: Images, again: int) -> dict[str, Tensor]:
        key = self.key.fold("drop path", images.epoch, again)
        scales = branch_scales(self.network.branches(), key, images.positions, self._frozen_parts)
        outputs = self.method.outputs(self.phase, batch.images, scales)
        terms = losses_by_replica(self.method, self.task, self.phase, batch, outputs, len(self.replicas))
        self.manual_backward(self._watch.weigh(torch.stack(list(terms.values())).sum()))
        return {name: term.detach() for name, term in terms.items()}


_GRADIENT = "gradient"
