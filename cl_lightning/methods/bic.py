"""BiC: large scale incremental learning.

Wu, Chen, Wang, Ye, Liu, Guo & Fu (CVPR 2019). Many new and few old images bias the last layer towards new classes. Two
numbers undo it, fitted to images that nothing was trained on. In a task:

1. **hold out** images of each new class: never trained on, never herded, kept beside the exemplars within the budget;
2. **grow**: copy a frozen teacher, corrected; add rows to the classifier, which has biases;
3. **main phase** on the new images and the exemplars, all weights: L = l KD + (1 - l) CE with l = old / seen classes
   and temperature 2 (equations 1 to 3). KD holds the old scores near the teacher's corrected ones;
4. **bias correction** (from the second task on): the scores of the new classes become beta z + gamma (equation 4).
   Cross-entropy on the images that are held out, as many of each class, clean, and all else frozen and in evaluation
   mode; gamma^2 is held small;
5. **herd** all classes anew with features as they are, old ones from the exemplars they still have.

Two forms are consistent. In the authors' code, the default, the newest task alone is corrected, in the teacher and in
prediction: earlier corrections live on by distillation. With ``pairs=all`` (FACIL) every task keeps its pair, also in
training. To train without and to predict with all of them would correct twice.

Legend: B batch, C classes seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Batch,
    DataAccess,
    Evaluate,
    Fit,
    Grow,
    Herd,
    HoldOut,
    Outputs,
    Phase,
    PlanItem,
    Task,
)
from cl_lightning.losses.classification import cross_entropy
from cl_lightning.losses.distillation import soft_cross_entropy
from cl_lightning.methods.base import Method, frozen_copy
from cl_lightning.models.embedding_network import EmbeddingNetwork

MAIN_PARTS = ("backbone", "classifier")
"""Parts that the main phase trains: all but the corrections."""
CORRECTION_PARTS = ("correction",)
"""Part that bias correction trains: the newest task's pair."""


@dataclass(frozen=True)
class BiCOptions:
    """Options of BiC; ``conf/method/bic.yaml`` has the authors' values."""

    temperature: float
    held_share: float
    """Share of each class's images in the memory that are held out of training."""
    offset_weight: float
    """Weight of gamma^2 / 2."""
    decay_over: int | None
    """Number of tasks T, if the main phase of task t (from 1) has T / t times its weight decay; None: it has its own.
    """
    moving_statistics: bool
    """True: bias correction in training mode, as the authors' code has it."""


class BiC(Method):
    """The method of bias correction."""

    cuda_graph_safe = True
    network: EmbeddingNetwork

    def __init__(self, network: EmbeddingNetwork, main: Phase, correction: Phase, options: BiCOptions) -> None:
        """``network`` has a head that can be corrected; ``correction`` sees what is held out, un-augmented."""
        super().__init__(network)
        self._main = main
        self._correction = correction
        self._options = options

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: hold out, grow, learn, correct, herd, evaluate."""
        main, tasks = self._main, self._options.decay_over
        if tasks is not None:
            main = main.decayed(max(1.0, tasks / (task.index + 1)))
        correct = [Fit(self._correction)] if task.index > 0 else []
        herd = Herd(distinct=True, normalised=False, old_too=True)
        return [HoldOut(self._options.held_share), Grow(), Fit(main), *correct, herd, Evaluate()]

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Copy the teacher with its corrections, then add rows."""
        self.teacher = frozen_copy(self.network) if task.index > 0 else None
        self.network.grow(task.num_new, key)

    def train_mode(self, phase: Phase) -> None:
        """Correct in evaluation mode: prediction will use the same statistics."""
        self.network.train(phase.name == self._main.name or self._options.moving_statistics)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return classification with distillation in the main phase, with a small offset in the other."""
        classification = cross_entropy(outputs.logits, batch.targets, batch.weights)
        if phase.name != self._main.name:
            offset = self.network.classifier.newest[1]
            return {"classification": classification, "offset": self._options.offset_weight * offset.square() / 2}
        if self.teacher is None:
            return {"classification": classification}
        with torch.no_grad():
            old = self.teacher.logits(self.teacher(batch.images))
        distilled = soft_cross_entropy(outputs.logits[:, : task.num_old], old, self._options.temperature)
        share_old = task.num_old / task.num_seen
        return {"classification": (1 - share_old) * classification, "distillation": share_old * distilled}

    def monitored_scalars(self) -> dict[str, Float[Tensor, ""]]:
        """Return the newest pair, beta and gamma."""
        beta, gamma = self.network.classifier.newest.detach().unbind()
        return {"beta": beta, "gamma": gamma}
