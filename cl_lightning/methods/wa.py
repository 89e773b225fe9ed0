"""WA: maintaining discrimination and fairness by weight aligning.

Zhao, Xiao, Gan, Zhang & Xia (CVPR 2020). Training on many new and few old images makes the classifier's weights of new
classes longer, so they win too often. WA shortens them afterwards, without any data. In a task:

1. **grow**: copy a frozen teacher (aligned), add rows to the classifier, which has no bias;
2. **main phase** on the new images and the memory, all weights trained: L = (1 - a) CE + a KD with a = old / seen
   classes and temperature 2. After each step the classifier's weights are clipped to be non-negative:
   features behind a ReLU are, so length alone then makes scores larger;
3. **align** (from the second task on): rows of new classes times mean length of old rows / mean length of new rows;
4. **herd** exemplars of the new classes. It depends on features only and alignment changes the classifier only: their
   order does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Act,
    Batch,
    DataAccess,
    Evaluate,
    Fit,
    Grow,
    Herd,
    Outputs,
    Phase,
    PlanItem,
    Progress,
    Task,
)
from cl_lightning.losses.classification import cross_entropy
from cl_lightning.losses.distillation import soft_cross_entropy
from cl_lightning.methods.base import Method, frozen_copy
from cl_lightning.models.embedding_network import EmbeddingNetwork

ALIGN = "align"


@dataclass(frozen=True)
class WAOptions:
    """Options of WA; ``conf/method/wa.yaml`` has the paper's values."""

    temperature: float
    clip: bool
    """Keep the classifier's weights non-negative."""
    rehearsal: bool
    """True if there is a memory: without one there is nothing to herd."""


class WA(Method):
    """The method of weight alignment."""

    cuda_graph_safe = True
    network: EmbeddingNetwork

    def __init__(self, network: EmbeddingNetwork, main: Phase, options: WAOptions) -> None:
        """``network`` is built with ``bias=False``: a bias would favour classes whatever the weights' lengths."""
        assert network.classifier.bias is None
        super().__init__(network)
        self._main = main
        self._options = options

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, learn, align, herd, evaluate."""
        align: list[PlanItem] = [Act(ALIGN)] if task.index > 0 else []
        herd: list[PlanItem] = [Herd()] if self._options.rehearsal else []
        return [Grow(), Fit(self._main), *align, *herd, Evaluate()]

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Copy the teacher, then add rows."""
        self.teacher = frozen_copy(self.network) if task.index > 0 else None
        self.network.grow(task.num_new, key)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return classification of all classes and distillation of the old ones, for every image."""
        classification = cross_entropy(outputs.logits, batch.targets, batch.weights)
        if self.teacher is None:
            return {"classification": classification}
        with torch.no_grad():
            old = self.teacher.logits(self.teacher(batch.images))
        distilled = soft_cross_entropy(outputs.logits[:, : task.num_old], old, self._options.temperature)
        share_old = task.num_old / task.num_seen
        return {"classification": (1 - share_old) * classification, "distillation": share_old * distilled}

    @torch.no_grad()
    def after_step(self, progress: Progress) -> None:
        """Clip the classifier."""
        if self._options.clip:
            self.network.classifier.weight.clamp_(min=0.0)

    @torch.no_grad()
    def act(self, name: str, task: Task, look: DataAccess) -> None:
        """Scale the rows of new classes to the mean length of the old ones'."""
        if name != ALIGN:
            return super().act(name, task, look)
        weight = self.network.classifier.weight
        lengths = weight.norm(dim=1)
        old, new = lengths[: task.num_old].mean(), lengths[task.num_old :].mean()
        weight[task.num_old :] *= old / new.clamp_min(1e-12)  # all new rows may have been clipped to nothing
        return None


MAIN_PARTS = ("backbone", "classifier")
"""Parts that the main phase trains: everything."""
