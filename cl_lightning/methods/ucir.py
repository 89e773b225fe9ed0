"""UCIR: learning a unified classifier incrementally via rebalancing.

Hou, Pan, Loy, Wang & Lin (CVPR 2019). Three imbalances between many new and few old images are each met by one part:
lengths of the classifier's rows (only cosines count), features that drift (their direction is held), and old classes
that resemble new ones (a margin). In a task:

1. **grow**: copy a frozen teacher, add rows, *imprinted*: the direction of the mean feature of the class's images, the
   mean length of the old rows;
2. **main phase** on the new images and the memory; the backbone, the new rows and the scale are trained, old rows are
   frozen. Of every image: cross-entropy of scale times cosines (equation 3), and l (1 - cos(f, f_teacher)) with
   l = l_base sqrt(old / new classes) (equations 6 and 7). Of images of old classes: max(0, m - cos(label) + cos(k))
   for the K new classes k with the highest cosine (equation 8);
3. **herd** exemplars of the new classes;
4. balanced fine-tuning on the memory, optional (published for ImageNet alone): all rows, backbone frozen and in
   evaluation mode, all three losses;
5. **class means** for the second read-out.

Features may be negative: the network's last ReLU is left out. What the paper calls "CNN" is read-out ``linear``;
``nme`` is the nearest mean of exemplars, with mirrored copies (the authors' code reverses the colours of its copies in
place of their width).

Legend: B batch, C classes seen, D feature size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

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
from cl_lightning.losses.classification import cross_entropy
from cl_lightning.losses.cosine import imprinted_rows, less_forget, margin_ranking
from cl_lightning.methods.base import Method, frozen_copy
from cl_lightning.methods.class_means import CLASS_MEANS, MeansReadout
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.tensor_types import Images, Vectors

MAIN_PARTS = ("backbone", "new_classes", "scale")
"""Parts that the main phase trains: rows of old classes stay."""
FINETUNING_PARTS = ("old_classes", "new_classes")
"""Parts that balanced fine-tuning trains: all rows."""


@dataclass(frozen=True)
class UCIROptions:
    """Options of UCIR; ``conf/method/ucir.yaml`` has the authors' values."""

    less_forget_weight: float
    """l_base."""
    ranking_weight: float
    margin: float
    """m, in cosines."""
    negatives: int
    """K."""
    imprint: bool
    """New rows begin as the mean feature of their class; False: at random (FACIL)."""
    rehearsal: bool
    """True if there is a memory: without one there are no exemplars to average, and no old images to rank."""


class UCIR(Method):
    """The method of cosines, held features and a margin."""

    couples_batch = True  # the ranking's mean is over the images of old classes
    cuda_graph_safe = True
    network: EmbeddingNetwork

    def __init__(self, network: EmbeddingNetwork, main: Phase, finetuning: Phase | None, options: UCIROptions) -> None:
        """``network`` has a head of cosines; ``finetuning`` is the balanced phase, None for none."""
        super().__init__(network)
        self._main = main
        self._finetuning = finetuning
        self._options = options
        self.means = MeansReadout(network.backbone.dim, "ucir", kept=options.rehearsal)

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, learn, herd, fine-tune where it is asked for, average, evaluate."""
        if not self._options.rehearsal:
            return [Grow(), Fit(self._main), Evaluate()]
        finetune = [Fit(self._finetuning)] if self._finetuning is not None and task.index > 0 else []
        return [Grow(), Fit(self._main), Herd(), *finetune, Act(CLASS_MEANS), Evaluate()]

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Copy the teacher, then add rows, imprinted from the second task on."""
        if task.index == 0:
            self.network.grow(task.num_new, key)
            return
        self.teacher = frozen_copy(self.network)
        means = self._mean_features(task, look) if self._options.imprint else None
        self.network.grow(task.num_new, key)
        if means is not None:
            head = self.network.classifier
            with torch.no_grad():
                head.new_rows().copy_(imprinted_rows(means.to(head.new_rows()), head.old_rows()))

    def _mean_features(self, task: Task, look: DataAccess) -> Float[Tensor, "new D"]:
        """Return the mean unit feature of each new class."""
        self.network.eval()
        rows = [look.rows_of(label) for label in task.classes]
        features = F.normalize(look.embed(torch.cat(rows), self.embed), dim=-1)
        return torch.stack([of_class.mean(dim=0) for of_class in features.split([len(each) for each in rows])])

    def train_mode(self, phase: Phase) -> None:
        """Keep the backbone's statistics where it is frozen."""
        self.network.train(phase.name == self._main.name)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return classification and, from the second task on, less forgetting and the ranking."""
        terms = {"classification": cross_entropy(outputs.logits, batch.targets, batch.weights)}
        if self.teacher is None:
            return terms
        embeddings, options = outputs.features.embeddings[:, 0], self._options
        with torch.no_grad():
            remembered = self.teacher(batch.images).embeddings[:, 0]
        weight = options.less_forget_weight * math.sqrt(task.num_old / task.num_new)
        terms["less_forget"] = weight * less_forget(embeddings, remembered)
        if options.rehearsal:
            cosines = self.network.classifier.cosines(embeddings)
            ranking = margin_ranking(
                cosines, batch.labels, task.num_old, options.negatives, options.margin, batch.weights
            )
            terms["ranking"] = options.ranking_weight * ranking
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
