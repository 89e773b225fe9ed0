"""Individual models: a vision transformer of its own for each task, the upper reference of MEAT's comparison.

Xue, Zhang, Song & Song, "Meta-attention for ViT-backed Continual Learning" (CVPR 2022), table 1, row "Individual": for
each task a whole transformer that has been trained before is fine-tuned, with a head of its own, on the task's images
alone. Nothing is shared, so nothing is forgotten, and the size grows by a transformer a task. In a task:

1. **grow**: a transformer that starts where MEAT's frozen one stands, and a head (``models/separate_network.py``);
2. **main phase** of both on the new images: the cross-entropy of the task's own classes.

Without a transformer from elsewhere the first task trains it, for as long as MEAT's first task does, and later tasks
start from a copy of that (our option, for lack of weights; the paper starts from ImageNet's).

The paper gives the task of a test image: the main protocol is task-incremental. The one read-out, ``linear``, compares
the scores of all heads as they are.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    TASK_INCREMENTAL,
    Batch,
    DataAccess,
    Evaluate,
    Fit,
    Grow,
    Outputs,
    Phase,
    PlanItem,
    Task,
)
from cl_lightning.losses.classification import own_cross_entropy
from cl_lightning.methods.base import Method
from cl_lightning.models.plain_vit import Weights
from cl_lightning.models.separate_network import SeparateNetwork
from cl_lightning.models.tensor_types import Images, Scales


class Individual(Method):
    """The method of a transformer for each task."""

    protocol = TASK_INCREMENTAL
    cuda_graph_safe = True
    network: SeparateNetwork

    def __init__(
        self,
        network: SeparateNetwork,
        main: Phase,
        backbone: Phase | None,
        load: Callable[[], Weights] | None = None,
    ) -> None:
        """``backbone`` trains the transformer in the first task, which later ones start from; without it all tasks
        start from the weights of ``load``. It is called at each growth: weights are not held in memory a second time.
        """
        super().__init__(network)
        self._main = main
        self._backbone = backbone
        self._load = load

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, learn, evaluate."""
        phase = self._main if self._backbone is None or task.index > 0 else self._backbone
        return [Grow(), Fit(phase), Evaluate()]

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Add a transformer and a head; loaded weights are every task's start, or the first one's."""
        self.network.grow(task.num_new, key)
        if self._load is not None and (self._backbone is None or task.index == 0):
            self.network.transformer.load_state_dict(self._load(), strict=True)

    def outputs(self, phase: Phase, images: Images, scales: Scales | None) -> Outputs:
        """Return the newest task's scores alone: no pass through the other transformers."""
        features = self.network.newest(images, scales)
        return Outputs(self.network.newest_logits(features), features)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return the cross-entropy of the task's own classes."""
        own = slice(task.num_old, task.num_seen)
        return {"classification": own_cross_entropy(outputs.logits, batch.targets, own, batch.weights)}


PARTS = ("transformer", "head")
"""Parts that both phases train."""
