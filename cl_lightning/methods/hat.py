"""HAT: hard attention to the task.

Serra, Suris, Miron & Karatzoglou, "Overcoming catastrophic forgetting with hard attention to the task" (ICML 2018). One
network learns all tasks; a task has masks of its units, nearly binary at the end, and a head. Weights between units
that older tasks use do not move. In a task:

1. **grow**: a head, and an embedding from which the masks are made (``models/hat_network.py``);
2. **main phase** on the new images: L = CE + lambda R, the cross-entropy of the task's own classes and the mean mask of
   the units that older tasks leave (``losses/mask_usage.py``). The masks sharpen within each epoch
   (``models/hard_attention.py``); the norm of the gradient is clipped, and embeddings stay within +-6;
3. **accumulate**: the task's masks join those that are used, as they are: the largest of both, not rounded.

The published schedule divides the rate by 3 where a validation loss no longer falls, and takes the best epoch's
network; here the rate falls in steps (ours), and ``early_stopping`` can take the best epoch. Dropout, masks and
restrictions are as published with ``model=alexnet``; on a ResNet or a transformer the places of masks are ours, and
norms are a task's own (``models/gated_backbones.py``).

The paper gives the task of a test image: the main protocol is task-incremental. Without it a task has to be inferred,
which is ours. Read-outs:

- ``linear``: all heads' scores side by side, each through its own masks;
- ``entropy``: the task whose own answer is surest (``methods/task_inference.py``). A task can be inferred once its
  masks have been accumulated.

Legend: B batch, C classes seen.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cl_lightning.core.types import (
    TASK_INCREMENTAL,
    Act,
    Batch,
    DataAccess,
    Evaluate,
    Fit,
    Grow,
    Outputs,
    Phase,
    PlanItem,
    Progress,
    Readout,
    Task,
)
from cl_lightning.losses.classification import own_cross_entropy
from cl_lightning.losses.mask_usage import mask_usage
from cl_lightning.methods.base import Method
from cl_lightning.methods.task_inference import of_inferred, surest
from cl_lightning.models.hard_attention import share_open
from cl_lightning.models.hat_network import HatNetwork
from cl_lightning.models.tensor_types import Images, Noise

ACCUMULATE = "accumulate"
MAIN_PARTS = ("backbone", "embedding", "head")
"""Parts that the main phase trains."""
READOUTS = ("linear", "entropy")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HATOptions:
    """Options of HAT; ``conf/method/hat.yaml`` has the published values."""

    usage_weight: float
    """Weight of the mean mask of units that are left (lambda)."""
    embedding_limit: float
    """Largest size of a number of an embedding, > 0."""
    readouts: tuple[str, ...]
    """Names among :data:`READOUTS`; the first is the main one."""


class HAT(Method):
    """The method of masks of units."""

    protocol = TASK_INCREMENTAL
    cuda_graph_safe = True
    network: HatNetwork

    def __init__(self, network: HatNetwork, main: Phase, options: HATOptions) -> None:
        super().__init__(network)
        self._main = main
        self._options = options

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, learn, accumulate, evaluate."""
        return [Grow(), Fit(self._main), Act(ACCUMULATE), Evaluate()]

    def outputs(self, phase: Phase, images: Images, scales: Noise | None) -> Outputs:
        """Return the newest task's scores; ``scales`` is the network's noise."""
        features = self.network.newest(images, scales)
        return Outputs(self.network.newest_logits(features), features)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return the cross-entropy of the task's own classes, and the capacity that its masks take."""
        own = slice(task.num_old, task.num_seen)
        usage = mask_usage(outputs.features.maps[0][0], self.network.used)
        return {
            "classification": own_cross_entropy(outputs.logits, batch.targets, own, batch.weights),
            "mask_usage": self._options.usage_weight * usage,
        }

    def after_step(self, progress: Progress) -> None:
        """Clamp the embedding, and sharpen the masks for the next step."""
        self.network.clamp(self._options.embedding_limit)
        self.network.anneal(progress.seen)

    def monitored_scalars(self) -> dict[str, Float[Tensor, ""]]:
        """Return the share of units that the newest task opens, and of those that older tasks use."""
        newest = self.network.masks(len(self.network.heads) - 1).detach()
        return {"masks/open": share_open(newest), "masks/used": share_open(self.network.used)}

    def act(self, name: str, task: Task, look: DataAccess) -> None:
        """Add the task's masks to those that are used."""
        if name != ACCUMULATE:
            super().act(name, task, look)
        opened = share_open(self.network.masks(task.index)).item()
        self.network.accumulate()
        used = share_open(self.network.used).item()
        _log.info("task %d: its masks open %.1f %% of the units, %.1f %% are used", task.index + 1, 100 * opened,
                  100 * used)  # fmt: skip
        if used == 1:
            _log.warning(
                "task %d: all units are used, and later tasks can learn little but their masks and heads: type a "
                "larger method.usage_weight, or a larger model", task.index + 1,
            )  # fmt: skip

    @torch.no_grad()
    def predict(self, images: Images) -> dict[str, Float[Tensor, "B C"]]:
        """Score by each read-out."""
        linear, sizes = self.network.logits(self.network(images)), self.network.sizes()
        made = {
            "linear": lambda: linear,
            "entropy": lambda: of_inferred(linear, sizes, surest(linear, sizes, self.network.learnt)),
        }
        return {name: made[name]() for name in self._options.readouts}

    def readouts(self) -> dict[str, Readout]:
        """Describe the scores: softmax of each; the method infers the task, so only ``linear`` can be exported."""
        return {name: Readout("softmax", by_network=name == "linear") for name in self._options.readouts}

    def pending_readouts(self) -> frozenset[str]:
        """Return the one that infers the task, until the newest task's masks have been accumulated."""
        known = self.network.learnt == len(self.network.heads)
        return frozenset() if known else frozenset({"entropy"} & set(self._options.readouts))
