"""iCaRL: incremental classifier and representation learning.

Rebuffi, Kolesnikov, Sperl & Lampert (CVPR 2017). A network learns features with a linear classifier, but predicts by
the nearest class mean of its exemplars. In a task:

1. **grow**: copy a frozen teacher, add rows to the classifier;
2. **main phase** on the new images and the memory, all weights trained: binary cross-entropy of each class's sigmoid,
   where the targets of new classes are the labels and those of old classes the teacher's sigmoid outputs, for every
   image (algorithm 3);
3. **herd** exemplars of the new classes (algorithms 4 and 5);
4. **class means** (algorithm 1): of the normalised features of each class's exemplars, and of their mirrored copies
   where a mirrored image is still of its class; normalised again. They are data: saved in checkpoints, computed once a
   task.

Two read-outs: ``nme``, minus the squared distance between the image's normalised feature and the class means, and
``linear``.

Legend: B batch, C classes seen, F feature size.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cl_lightning.core.errors import InvalidSettingError
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
from cl_lightning.losses.classification import binary_cross_entropy
from cl_lightning.methods.base import Method, frozen_copy
from cl_lightning.methods.class_means import (
    CLASS_MEANS,
    mean_exemplars,
    near_or_missing,
    nearest_mean_scores,
    restored_means,
)
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.tensor_types import Images, Vectors


class ICaRL(Method):
    """The method of sigmoid classification and distillation, and of the nearest mean of exemplars."""

    cuda_graph_safe = True
    network: EmbeddingNetwork

    def __init__(self, network: EmbeddingNetwork, main: Phase, *, rehearsal: bool) -> None:
        """Raises ``ValueError`` without rehearsal: no exemplars, no class means."""
        if not rehearsal:
            raise InvalidSettingError("rehearsal", rehearsal, ": iCaRL needs exemplars", True)
        super().__init__(network)
        self._main = main
        self.class_means = torch.empty(0, network.backbone.dim)
        """Class means (C, F), float32 on the CPU, rows of length one; C: classes seen at the last
        ``Act(CLASS_MEANS)``.
        """

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, learn, herd, average, evaluate."""
        return [Grow(), Fit(self._main), Herd(distinct=True), Act(CLASS_MEANS), Evaluate()]

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Copy the teacher, then add rows."""
        self.teacher = frozen_copy(self.network) if task.index > 0 else None
        self.network.grow(task.num_new, key)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return the terms of algorithm 3: a mean over images and all seen classes, split into new and old classes."""
        old, share_old = task.num_old, task.num_old / task.num_seen
        classification = binary_cross_entropy(outputs.logits[:, old:], batch.targets[:, old:], batch.weights)
        if self.teacher is None:
            return {"classification": classification}
        with torch.no_grad():
            remembered = self.teacher.logits(self.teacher(batch.images)).float().sigmoid()
        distillation = binary_cross_entropy(outputs.logits[:, :old], remembered)
        return {"classification": (1 - share_old) * classification, "distillation": share_old * distillation}

    def act(self, name: str, task: Task, look: DataAccess) -> None:
        """Recompute the means of all classes seen: features have moved, and lists of exemplars have shrunk."""
        if name != CLASS_MEANS:
            return super().act(name, task, look)
        self.class_means = mean_exemplars(task.num_seen, look, self.embed, "iCaRL")
        return None

    def predict(self, images: Images | Vectors) -> dict[str, Float[Tensor, "B C"]]:
        """Score by the nearest mean of exemplars (the method's own), and by the classifier that it was trained with.

        Classes without a mean yet (between growth and ``Act(CLASS_MEANS)``) score minus infinity in ``nme``.
        """
        features = self.network(images)
        linear = self.network.logits(features)
        near = nearest_mean_scores(features.embeddings[:, 0], self.class_means.to(images.device))
        return {"nme": near_or_missing(near, linear.shape[1]), "linear": linear}

    def readouts(self) -> dict[str, Readout]:
        """Describe the scores: ``linear`` was trained by sigmoids, ``nme`` was not trained. Softmax of minus squared
        distances (classes as Gaussians of equal width) ranks the classes, but is not calibrated.
        """
        return {"nme": Readout("softmax", means=self.class_means), "linear": Readout("sigmoid")}

    def pending_readouts(self) -> frozenset[str]:
        """Return ``nme`` from growth to ``Act(CLASS_MEANS)``: new classes have no mean, and those of old ones are of
        features that have moved since.
        """
        complete = len(self.class_means) == len(self.network.classifier.weight)
        return frozenset() if complete else frozenset({"nme"})

    def extra_state(self) -> dict[str, Plain]:
        """Return the class means."""
        return {CLASS_MEANS: self.class_means}

    def load_extra_state(self, state: dict[str, Plain]) -> None:
        """Restore the class means. Raises ``ValueError`` for anything else than a value of :meth:`extra_state`."""
        self.class_means = restored_means(state, self.network.backbone.dim, "icarl")


MAIN_PARTS = ("backbone", "classifier")
"""Parts that the main phase trains: everything."""
