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
from cl_lightning.methods.base import Method
from cl_lightning.models.network import branch_scales
from cl_lightning.models.replica_norm import set_replicas
from cl_lightning.optim.optimiser import base_rate, make_optimiser
from cl_lightning.optim.sam import ascend, descend
from cl_lightning.optim.schedule import learning_rate
from cl_lightning.rng import Key
from cl_lightning.types import Batch, Phase, Progress, Task


@dataclass(frozen=True)
class Length:
    """How long a phase is."""

    steps_per_epoch: int
    epochs: int
    images_per_step: int

    @property
    def total_steps(self) -> int:
        """Optimiser steps."""
        return self.steps_per_epoch * self.epochs


class Learner(pl.LightningModule):
    """Trains ``method`` for ``phase`` of ``task``."""

    def __init__(self, method: Method, task: Task, phase: Phase, length: Length, replicas: int, key: Key) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.network = method.network
        self.method = method
        self.task = task
        self.phase = phase
        self.length = length
        self.replicas = replicas
        self.key = key
        self.steps_done = 0
        self.terms: dict[str, Tensor] = {}
        """The last step's loss terms, on the device: read them seldom."""
        self.lr = 0.0
        self._base_rate = base_rate(phase.optimiser, length.images_per_step)
        set_replicas(self.network, replicas)
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
        """A new optimiser for the phase, over what it trains."""
        return make_optimiser(self.phase.optimiser, self._trained, self._base_rate)

    def on_fit_start(self) -> None:
        """Bring the teacher to the device: it is no part of this module, so nothing else does."""
        if self.method.teacher is not None:
            self.method.teacher.to(self.device)

    def on_train_start(self) -> None:
        """Set batch norm's mode."""
        self.method.train_mode(self.phase)

    @property
    def progress(self) -> Progress:
        """Where the phase stands."""
        epoch = min(self.steps_done // self.length.steps_per_epoch, self.length.epochs - 1)
        return Progress(self.steps_done, self.length.total_steps, epoch, self.length.epochs)

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
        optimiser.step()  # type: ignore[union-attr]
        self.steps_done += 1
        self.method.after_step(self.progress)

    def _mixed(self, images: Images) -> Batch:
        mixing, classes = self.phase.mixing, self.task.num_seen
        if mixing is None:
            return Batch(images.images, images.labels, one_hot(images.labels, classes))
        key = self.key.fold("mixup", self.steps_done)
        ratios = [mix_ratio(key.fold(replica), mixing.alpha) for replica in range(self.replicas)]
        mixed, targets = mixup(images.images, one_hot(images.labels, classes, mixing.smoothing), ratios)
        return Batch(mixed, images.labels, targets)

    def _backward(self, batch: Batch, images: Images, again: int) -> dict[str, Tensor]:
        key = self.key.fold("drop path", images.epoch, again)
        scales = branch_scales(self.network.branches(), key, images.positions, self._frozen_parts)
        outputs = self.method.outputs(self.phase, batch.images, scales)
        terms = self.method.losses(self.task, self.phase, batch, outputs)
        self.manual_backward(torch.stack(list(terms.values())).sum())
        return {name: term.detach() for name, term in terms.items()}
