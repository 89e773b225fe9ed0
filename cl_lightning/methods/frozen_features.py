"""Features that are learnt once, or elsewhere, and then stay: what SimpleCIL and RanPAC share.

Where the backbone comes with trained weights, nothing is ever trained, unless the first task adapts it: RanPAC's first
phase, which trains adapters beside the MLPs and a classifier of scaled cosines on it (``models/adapters.py``). Where it
does not, the first task trains it and a linear classifier by cross-entropy, as the ResNet baselines are trained: our
option, for lack of weights. Either way a task then looks at its clean images once, in evaluation mode, and adds them to
sums; classes are read by a head that is computed from the sums (``models/frozen_heads.py``), so no image has to be
kept.

Legend: n images of a task, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cl_lightning.core.rng import Key
from cl_lightning.core.types import Act, DataAccess, Embed, Evaluate, Fit, Grow, Phase, PlanItem, Readout, Task
from cl_lightning.models.backbone import Backbone
from cl_lightning.models.embedding_network import EmbeddingNetwork

ACCUMULATE = "accumulate"
"""Name of the plan item that adds a task's images to the sums."""
MAIN_PARTS = ("backbone", "classifier")
"""Parts that the first task trains, where it trains the backbone."""
ADAPTED_PARTS = ("adapters", "classifier")
"""Parts that it trains where it adapts a backbone that comes with trained weights."""
READOUTS = {"linear": Readout("none")}
"""Cosines and least-squares estimates rank the classes: nothing made probabilities of them."""


@dataclass(frozen=True)
class Source:
    """Source of the features: trained weights, the first task, or both in this order."""

    main: Phase | None
    """Phase of the first task, which trains the backbone or adapts it; None where it is neither."""
    load: Callable[[Backbone], None] | None
    """Function that puts trained weights into the backbone, called when the first task begins; None without any."""

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, learn the features in the first task if they are to be learnt, add up, evaluate."""
        fit: list[PlanItem] = [Fit(self.main)] if self.main is not None and task.index == 0 else []
        return [Grow(), *fit, Act(ACCUMULATE), Evaluate()]

    def grow(self, network: EmbeddingNetwork, task: Task, key: Key) -> None:
        """Grow the head; before the first task, load the backbone's weights."""
        if task.index == 0 and self.load is not None:
            self.load(network.backbone.start())
        network.grow(task.num_new, key)


@dataclass(frozen=True, eq=False)
class TaskFeatures:
    """The clean training images of a task."""

    rows: Int64[Tensor, " n"]
    """Rows of the scenario's training source."""
    labels: Int64[Tensor, " n"]
    """Global labels."""
    features: Float[Tensor, "n D"]
    """Float32, on the CPU."""


def task_features(task: Task, look: DataAccess, embed: Embed) -> TaskFeatures:
    """Embed all images of a task, class by class."""
    rows = [look.rows_of(label) for label in task.classes]
    labels = torch.tensor(task.classes).repeat_interleave(torch.tensor([len(each) for each in rows]))
    return TaskFeatures(torch.cat(rows), labels, look.embed(torch.cat(rows), embed))


def pending(network: EmbeddingNetwork, known: int) -> frozenset[str]:
    """Return the read-out while neither the linear classifier nor the rows, which know ``known`` classes, know all."""
    complete = network.classifier.linear is not None or known == sum(network.classes)
    return frozenset() if complete else frozenset(READOUTS)
