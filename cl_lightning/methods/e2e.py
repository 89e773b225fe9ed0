"""End-to-End incremental learning.

Castro, Marin-Jimenez, Guil, Schmid & Alahari (ECCV 2018), after the authors' code. Features and classifier are learnt
together with a distillation of each old task's scores, and then once more on balanced data. In a task:

1. **grow**: copy a frozen teacher, add rows (with biases) to the classifier;
2. **main phase** on the new images and the exemplars, all weights: the cross-distilled loss, cross-entropy of all
   classes plus, for each old task, the cross-entropy of its softmax with the teacher's at temperature 2 (equations 1
   to 3), summed over tasks, mean over images, without T^2. An epoch goes over twelve variants of each image, drawn once
   a phase; noise is added to the gradient;
3. **balanced phase** (from the second task on): as many of each new class as an old class has are herded, a temporary
   teacher is taken from the network as it is now, and the same loss, which now holds the newest task's scores too, goes
   on with smaller steps on exemplars and chosen images alone;
4. **herd** anew, within the budget.

The first task has a schedule of its own. Images are centred by one mean for all tasks; the authors' code centres those
of a task, test images too, by the mean of the task's own, which tells the task.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Act, Batch, DataAccess, Evaluate, Fit, Grow, Herd, Outputs, Phase, PlanItem, Task
from cl_lightning.losses.classification import cross_entropy
from cl_lightning.losses.distillation import task_soft_cross_entropy
from cl_lightning.methods.base import Method, frozen_copy
from cl_lightning.models.embedding_network import EmbeddingNetwork

PARTS = ("backbone", "classifier")
"""Parts that each phase trains: everything."""
TEMPORARY_TEACHER = "temporary teacher"


@dataclass(frozen=True)
class E2EPhases:
    """Phases of End-to-End."""

    first: Phase | None
    """Phase of the first task in place of ``main``; None: ``main`` in every task."""
    main: Phase
    balanced: Phase
    """Phase on the exemplars of old classes and as many images of each new one, the memory alone."""


class E2E(Method):
    """The method of cross-distilled loss and balanced fine-tuning."""

    cuda_graph_safe = True
    network: EmbeddingNetwork

    def __init__(self, network: EmbeddingNetwork, phases: E2EPhases, temperature: float) -> None:
        """``temperature`` is that of the distillation."""
        super().__init__(network)
        self._phases = phases
        self._temperature = temperature

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, learn, balance with a temporary teacher, herd, evaluate."""
        phases = self._phases
        if task.index == 0:
            return [Grow(), Fit(phases.first or phases.main), Herd(), Evaluate()]
        balanced: list[PlanItem] = [Herd(as_old=True), Act(TEMPORARY_TEACHER), Fit(phases.balanced), Herd(again=True)]
        return [Grow(), Fit(phases.main), *balanced, Evaluate()]

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Copy the teacher, then add rows drawn as the authors draw them: deviation sqrt(2 / width), biases 0."""
        self.teacher = frozen_copy(self.network) if task.index > 0 else None
        self.network.grow(task.num_new, key)
        rows, biases = (values.data[-task.num_new :] for values in self.network.classifier.parameters())
        drawn = rng.normal(key.fold("classifier"), torch.arange(rows.numel())).view(rows.shape)
        rows.copy_(math.sqrt(2 / rows.shape[1]) * drawn)
        biases.zero_()

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return classification, and the distillation of each task that the teacher knows."""
        classification = cross_entropy(outputs.logits, batch.targets, batch.weights)
        if self.teacher is None:
            return {"classification": classification}
        with torch.no_grad():
            remembered = self.teacher.logits(self.teacher(batch.images))
        known = remembered.shape[1]
        sizes = self.network.classes if known == task.num_seen else self.network.classes[:-1]
        distilled = task_soft_cross_entropy(outputs.logits[:, :known], remembered, sizes, self._temperature)
        return {"classification": classification, "distillation": distilled}

    def act(self, name: str, task: Task, look: DataAccess) -> None:
        """Take the network as it is now for the balanced phase's teacher."""
        if name != TEMPORARY_TEACHER:
            return super().act(name, task, look)
        self.teacher = frozen_copy(self.network)
        return None
