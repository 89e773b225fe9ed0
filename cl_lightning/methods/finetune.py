"""Plain training on a view of the data: the lower bound (fine-tuning) and the upper bound (joint training).

Fine-tuning trains the whole network on each task in turn, with the rehearsal memory if there is one; without, it
forgets. Joint training uses all training images of all tasks so far (``View.CUMULATIVE``), which no continual learner
may.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from cl_lightning.core.types import Batch, Evaluate, Fit, Grow, Herd, Outputs, Phase, PlanItem, Task
from cl_lightning.losses.classification import cross_entropy
from cl_lightning.methods.base import Method
from cl_lightning.models.network import Network


class Finetune(Method):
    """A method of softmax cross-entropy over the classes seen, on the view of ``main``."""

    cuda_graph_safe = True

    def __init__(self, network: Network, main: Phase, *, rehearsal: bool) -> None:
        super().__init__(network)
        self._main = main
        self._rehearsal = rehearsal

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, learn, herd if there is a memory, evaluate."""
        herd: list[PlanItem] = [Herd()] if self._rehearsal else []
        return [Grow(), Fit(self._main), *herd, Evaluate()]

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return the classification term."""
        return {"classification": cross_entropy(outputs.logits, batch.targets, batch.weights)}
