"""LwF: learning without forgetting.

Li & Hoiem (ECCV 2016; TPAMI 2017). Fine-tuning that keeps what the old network says of the *new* images: before a task
grows, the network is frozen as a teacher. No old image is needed. In a task:

1. **grow**: copy the teacher, add rows to the classifier;
2. **main phase** on the new images: L = CE(new classes) + w KD_2(old classes), KD_2 the cross-entropy of softmaxes at
   temperature 2, mean over images, without T^2 (equations 2 to 4). The first task has a schedule of its own.

The paper classifies among the new classes alone, and keeps one softmax for each old task. As published by PyCIL, which
is what runs here, the old classes share one softmax and w is 3. Without a memory the classes must not compete in the
classification: every new image would push all old scores down. With one they may (``classify: all``), and do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cl_lightning.core.rng import Key
from cl_lightning.core.types import Batch, DataAccess, Evaluate, Fit, Grow, Herd, Outputs, Phase, PlanItem, Task
from cl_lightning.losses.classification import cross_entropy, new_class_cross_entropy
from cl_lightning.losses.distillation import soft_cross_entropy, task_soft_cross_entropy
from cl_lightning.methods.base import Method, frozen_copy
from cl_lightning.models.embedding_network import EmbeddingNetwork

PARTS = ("backbone", "classifier")
"""Parts that a phase trains: everything."""
PARTS_WITH_FROZEN_ROWS = ("backbone", "new_classes")
"""Parts that it trains where the rows of old classes stay as they are (FACIL's form without a memory)."""


@dataclass(frozen=True)
class LwFOptions:
    """Options of LwF; ``conf/method/lwf.yaml`` has PyCIL's values."""

    temperature: float
    weight: float
    """Factor of the distillation."""
    all_classes_compete: bool
    """True: classification among all classes seen; False: among the new ones, which needs images of these alone."""
    per_task: bool
    """True: distil one softmax for each old task (the paper); False: one for all old classes."""
    rehearsal: bool
    """True if there is a memory to fill."""


class LwF(Method):
    """Fine-tuning with a teacher."""

    cuda_graph_safe = True
    network: EmbeddingNetwork

    def __init__(self, network: EmbeddingNetwork, first: Phase | None, main: Phase, options: LwFOptions) -> None:
        """``first`` is trained in the first task in place of ``main``; None: ``main`` in every task."""
        super().__init__(network)
        self._first = first or main
        self._main = main
        self._options = options

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, learn, herd if there is a memory, evaluate."""
        herd: list[PlanItem] = [Herd()] if self._options.rehearsal else []
        return [Grow(), Fit(self._main if task.index > 0 else self._first), *herd, Evaluate()]

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Copy the teacher, then add rows."""
        self.teacher = frozen_copy(self.network) if task.index > 0 else None
        self.network.grow(task.num_new, key)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return the classification, and from the second task on the distillation of the old classes."""
        if self.teacher is None:
            return {"classification": cross_entropy(outputs.logits, batch.targets, batch.weights)}
        num_compared = 0 if self._options.all_classes_compete else task.num_old
        classification = new_class_cross_entropy(outputs.logits, batch.targets, num_compared, batch.weights)
        old, temperature = outputs.logits[:, : task.num_old], self._options.temperature
        with torch.no_grad():
            remembered = self.teacher.logits(self.teacher(batch.images))
        if self._options.per_task:
            distilled = task_soft_cross_entropy(old, remembered, self.network.classes[:-1], temperature)
        else:
            distilled = soft_cross_entropy(old, remembered, temperature)
        return {"classification": classification, "distillation": self._options.weight * distilled}
