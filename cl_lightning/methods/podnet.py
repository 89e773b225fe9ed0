"""PODNet: pooled outputs distillation for small-tasks incremental learning.

Douillard, Cord, Ollion, Robert & Valle (ECCV 2020). Two ideas: a distillation that holds the pooled activations of
every stage, and a classifier with several proxies for each class. In a task:

1. **grow**: copy a frozen teacher, add proxies of the new classes: centres of clusters (k-means) of their unit
   features, times the mean length of the old proxies;
2. **main phase** on the new images and the memory; the backbone, the new proxies and the scale are trained. Of every
   image: NCA of the scaled similarities with a margin (equation 10; ``losses/nca.py`` has its three forms), and
   w sqrt(seen / new classes) times POD-flat, 1 - cos(f, f_teacher), and POD-spatial of the maps (equations 5 and 6).
   Each element of the gradient is clamped to [-5, 5], as published;
3. **herd** the new classes, then **fine-tune** all proxies on the memory by NCA; backbone and scale are frozen, but the
   statistics of batch norm go on moving (published; ``finetuning_batch_norm: evaluation`` keeps them). As they move
   features, exemplars are chosen **again**;
4. **class means** for the second read-out.

The network has no ReLU behind its sums, so features may be negative. ``linear`` is the paper's "CNN", ``nme`` its
nearest mean of exemplars.

Legend: B batch, C classes seen, D feature size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cl_lightning.core import rng
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
    Plain,
    PlanItem,
    Readout,
    Task,
)
from cl_lightning.losses.cosine import less_forget
from cl_lightning.losses.nca import nca
from cl_lightning.losses.pod import pod_spatial
from cl_lightning.methods.base import Method, frozen_copy
from cl_lightning.methods.class_means import CLASS_MEANS, MeansReadout
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.proxies import cluster_centres, first_proxies
from cl_lightning.models.tensor_types import Images, Vectors

MAIN_PARTS = ("backbone", "new_classes", "scale")
"""Parts that the main phase trains: proxies of old classes stay."""
FINETUNING_PARTS = ("old_classes", "new_classes")
"""Parts that fine-tuning trains: all proxies."""


@dataclass(frozen=True)
class PODNetOptions:
    """Options of PODNet; ``conf/method/podnet.yaml`` has the paper's values."""

    nca: str
    """Form of the classification (``losses.nca.FORMS``)."""
    margin: float
    pod_flat: float
    """Weight of POD-flat, before sqrt(seen / new classes)."""
    pod_spatial: float
    """Weight of POD-spatial, before sqrt(seen / new classes)."""
    moving_statistics: bool
    """Let fine-tuning move the running statistics of batch norm, and so all features."""
    rehearsal: bool
    """True if there is a memory: without one there is nothing to fine-tune on, and there are no class means."""


class PODNet(Method):
    """The method of pooled distillation and proxies."""

    cuda_graph_safe = True
    network: EmbeddingNetwork

    def __init__(
        self, network: EmbeddingNetwork, main: Phase, finetuning: Phase | None, options: PODNetOptions
    ) -> None:
        """``network`` has a head of proxies; ``finetuning`` is the balanced phase, None for none."""
        super().__init__(network)
        self._main = main
        self._finetuning = finetuning
        self._options = options
        self.means = MeansReadout(network.backbone.dim, "podnet", kept=options.rehearsal)

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, learn, herd, fine-tune, herd again if features have moved, average, evaluate."""
        learn: list[PlanItem] = [Grow(), Fit(self._main)]
        if not self._options.rehearsal:
            return [*learn, Evaluate()]
        finetune: list[PlanItem] = []
        if self._finetuning is not None and task.index > 0:
            again = [Herd(again=True)] if self._options.moving_statistics else []
            finetune = [Fit(self._finetuning), *again]
        return [*learn, Herd(), *finetune, Act(CLASS_MEANS), Evaluate()]

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Copy the teacher, then add proxies: clusters of the new classes' features, from the second task on."""
        if task.index == 0:
            self.network.grow(task.num_new, key)
            return
        self.teacher = frozen_copy(self.network)
        centres = self._centres(task, key, look)
        self.network.grow(task.num_new, key)
        head = self.network.classifier
        with torch.no_grad():
            head.new_rows().copy_(first_proxies(centres.to(head.new_rows()), head.old_rows()))

    def _centres(self, task: Task, key: Key, look: DataAccess) -> Float[Tensor, "_proxies D"]:
        self.network.eval()
        rows = [look.rows_of(label) for label in task.classes]
        features = look.embed(torch.cat(rows), self.embed).split([len(each) for each in rows])
        seeds = rng.integers(key.fold("proxies"), torch.tensor(task.classes), 2**31).tolist()
        count = self.network.classifier.proxies
        return torch.cat([cluster_centres(each, count, seed) for each, seed in zip(features, seeds, strict=True)])

    def train_mode(self, phase: Phase) -> None:
        """Let statistics of batch norm move, unless fine-tuning shall keep them."""
        self.network.train(phase.name == self._main.name or self._options.moving_statistics)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return classification and, in the main phase from the second task on, both distillations."""
        options, scale = self._options, self.network.classifier.scale
        if phase.name != self._main.name:
            scale = scale.detach()
        terms = {"classification": nca(outputs.logits, batch.labels, scale, options.margin, options.nca, batch.weights)}
        if self.teacher is None or phase.name != self._main.name:
            return terms  # fine-tuning moves no feature by its gradient
        with torch.no_grad():
            theirs = self.teacher(batch.images)
        ours, factor = outputs.features, math.sqrt(task.num_seen / task.num_new)
        flat = less_forget(ours.embeddings[:, 0], theirs.embeddings[:, 0])
        terms["pod_flat"] = options.pod_flat * factor * flat
        terms["pod_spatial"] = options.pod_spatial * factor * pod_spatial(ours.maps, theirs.maps)
        return terms

    def act(self, name: str, task: Task, look: DataAccess) -> None:
        """Take the means of all classes' exemplars."""
        if name != CLASS_MEANS:
            return super().act(name, task, look)
        self.means.take(task.num_seen, look, self.embed)
        return None

    def predict(self, images: Images | Vectors) -> dict[str, Float[Tensor, "B C"]]:
        """Score by the classifier and, with a memory, by the nearest mean of exemplars."""
        features = self.network(images)
        return self.means.scores(self.network.logits(features), features.embeddings[:, 0])

    def readouts(self) -> dict[str, Readout]:
        """Describe the scores of both."""
        return self.means.readouts()

    def pending_readouts(self) -> frozenset[str]:
        """Return ``nme`` from growth to the new class means."""
        return self.means.pending(sum(self.network.classes))

    def extra_state(self) -> dict[str, Plain]:
        """Return the class means, where there is a memory."""
        return self.means.state()

    def load_extra_state(self, state: dict[str, Plain]) -> None:
        """Restore the class means. Raises ``InvalidFileError`` for anything else."""
        self.means.load(state)
