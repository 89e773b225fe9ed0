"""Plain training on whatever the task shows: the lower bound (fine-tuning) and the upper bound (joint training).

Fine-tuning trains the whole network on each task in turn, with the rehearsal memory if there is one; without, it
forgets. Joint training looks at all training images of all tasks so far, which no continual learner may: its view says
so by its name.
"""

from __future__ import annotations

from torch import Tensor

from cl_lightning.core.types import Batch, Evaluate, Fit, Grow, Herd, Outputs, Phase, PlanItem, Task
from cl_lightning.losses.classification import cross_entropy
from cl_lightning.methods.base import Method
from cl_lightning.models.network import Network


class Finetune(Method):
    """Softmax cross-entropy over the classes seen, on the view of ``main``."""

    cuda_graph_safe = True

    def __init__(self, network: Network, main: Phase, *, rehearsal: bool) -> None:
        super().__init__(network)
        self._main = main
        self._rehearsal = rehearsal

    def plan(self, task: Task) -> list[PlanItem]:
        """Grow, learn, herd if there is a memory, evaluate."""
        herd: list[PlanItem] = [Herd()] if self._rehearsal else []
        return [Grow(), Fit(self._main), *herd, Evaluate()]

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        """One term."""
        return {"classification": cross_entropy(outputs.logits, batch.targets)}
