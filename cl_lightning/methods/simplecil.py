"""SimpleCIL: the nearest class mean by cosine, on features that never change.

Zhou, Cai, Ye, Zhan & Liu, "Revisiting Class-Incremental Learning with Pre-Trained Models: Generalizability and
Adaptivity are All You Need" (IJCV 2024), section 4.1. Every class is represented by the mean w of the features f of its
training images (equation 4: the features as they are, not made unit first), and scored by <f / |f|, w / |w|>. In a
task:

1. **grow**: rows for the new classes;
2. where no trained weights are given, the first task trains the backbone (``frozen_features.py``; not the paper's);
3. **accumulate** each new class's sum of features and number of images; the means are its rows.

Nothing else is learnt: scores of old classes never move, and no image is kept. The paper's scale of the cosines stays
at 1 and changes no answer, so there is none here.

Legend: C classes seen, D width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Batch, DataAccess, Outputs, Phase, Plain, PlanItem, Readout, Task
from cl_lightning.losses.classification import cross_entropy
from cl_lightning.methods.base import Method
from cl_lightning.methods.frozen_features import ACCUMULATE, READOUTS, Source, pending, task_features
from cl_lightning.models.embedding_network import EmbeddingNetwork


class SimpleCIL(Method):
    """The method of class means on frozen features."""

    cuda_graph_safe = True
    network: EmbeddingNetwork

    def __init__(self, network: EmbeddingNetwork, source: Source) -> None:
        """``network`` has a head of :class:`~cl_lightning.models.frozen_heads.MeanCosines`."""
        super().__init__(network)
        self._source = source
        self.sums = torch.zeros(0, network.backbone.dim, dtype=torch.float64)
        """(C, D), of the features of each class."""
        self.counts = torch.zeros(0, dtype=torch.int64)
        """(C,) number of images of each class."""

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, train the backbone in a first task that has to, accumulate, evaluate."""
        return self._source.plan(task)

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Add rows; before the first task, load the backbone's weights."""
        self._source.grow(self.network, task, key)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return the classification by the linear classifier."""
        return {"classification": cross_entropy(outputs.logits, batch.targets, batch.weights)}

    def act(self, name: str, task: Task, look: DataAccess) -> None:
        """Add the task's classes to the sums, and take the means."""
        if name != ACCUMULATE:
            return super().act(name, task, look)
        found = task_features(task, look, self.embed)
        sums = torch.zeros(task.num_seen, self.sums.shape[1], dtype=torch.float64)
        sums[: task.num_old] = self.sums[: task.num_old]
        self.sums = sums.index_add_(0, found.labels, found.features.double())
        new = found.labels.bincount(minlength=task.num_seen)[task.num_old :]
        self.counts = torch.cat([self.counts[: task.num_old], new])
        self.network.classifier.fill(self.sums / self.counts[:, None])
        return None

    def readouts(self) -> dict[str, Readout]:
        """Describe the cosines: they rank the classes."""
        return dict(READOUTS)

    def pending_readouts(self) -> frozenset[str]:
        """Return the read-out from growth to the new means, unless the linear classifier is there."""
        return pending(self.network, len(self.counts))

    def extra_state(self) -> dict[str, Plain]:
        """Return sums and numbers of images."""
        return {"sums": self.sums, "counts": self.counts}

    def load_extra_state(self, state: dict[str, Plain]) -> None:
        """Restore them. Raises ``InvalidFileError`` for anything else than a value of :meth:`extra_state`."""
        sums: Plain = state.get("sums")
        counts: Plain = state.get("counts")
        dim = self.network.backbone.dim
        fits = set(state) == {"sums", "counts"} and isinstance(sums, Tensor) and isinstance(counts, Tensor)
        if not fits or sums.shape != (len(counts), dim):
            given = ", ".join(state) or "nothing"
            reason = f"is not sums of {dim} features of each class"
            raise InvalidFileError(f"state of {given}", reason, "resume a run of method=simplecil")
        self.sums, self.counts = sums.double().cpu(), counts.cpu()
