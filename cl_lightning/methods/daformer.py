"""DAFormer: dual-attention transformers, DyTox's family with another decoder.

Wang et al., "Dual-Attention Transformers for Class-Incremental Learning: A Tale of Two Memories" (IEEE TMM), after its
public code. That differs from DyTox's in the decoder (``models/dual_attention.py``), and in nothing else that is
trained: for each task all patches pass a block whose attention is self-attention plus attention to a learned bank of
keys, and are averaged. A task adds a head and such a bank (DAFormer-M), or a head alone and one bank serves all tasks
(DAFormer-S: our reading of the abstract, the code has no -S). Plan, losses, what is frozen when: DyTox's
(``methods/dytox.py``), with banks for tokens. The published recipe is DyTox++'s (MixUp, adaptive SAM) in one process
(``recipe=daformer``); it may be chosen freely.

The abstract also names a K-nearest-neighbour-invariant distillation that the code lacks. ``neighbours`` adds our
reconstruction of it (``losses/neighbours.py``) to the main phase, weighted like the distillation by the share of old
classes: L += weight a L_neighbours, a = old / seen classes. It looks at the images as they are trained on, mixed ones
too, as the distillation does. It is off unless asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from cl_lightning.core.rng import Key
from cl_lightning.core.types import Batch, DataAccess, Outputs, Phase, PlanItem, Readout, Task
from cl_lightning.losses.neighbours import Neighbours, neighbour_distillation
from cl_lightning.methods import dytox
from cl_lightning.methods.base import Method
from cl_lightning.methods.dytox import DyToxOptions
from cl_lightning.models.task_network import TaskNetwork
from cl_lightning.models.tensor_types import Images, Noise


@dataclass(frozen=True)
class NeighbourTerm:
    """Options of the reconstructed distillation of neighbourhoods."""

    loss: Neighbours
    weight: float
    """Factor of the loss, beside the share of old classes."""


class DAFormer(Method):
    """The method of dual attention, trained as DyTox is."""

    cuda_graph_safe = True
    network: TaskNetwork

    def __init__(
        self,
        network: TaskNetwork,
        main: Phase,
        finetuning: Phase | None,
        options: DyToxOptions,
        neighbours: NeighbourTerm | None = None,
    ) -> None:
        """``neighbours`` needs ``options.distillation``: the neighbourhoods to keep are the teacher's."""
        assert neighbours is None or options.distillation, "neighbours of no teacher"
        super().__init__(network)
        self._main = main
        self._finetuning = finetuning
        self._options = options
        self._neighbours = neighbours
        self.couples_batch = neighbours is not None

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, learn, herd, balance, evaluate."""
        return dytox.plan_task(task, self._main, self._finetuning, self._options)

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Copy the teacher, then append a bank and a head to the network."""
        self.teacher = dytox.keep_teacher(self.network, task, self._options)
        self.network.grow(task.num_new, key)

    def train_mode(self, phase: Phase) -> None:
        """Let statistics of batch norm move where the recipe says so: an encoder may have it."""
        dytox.train_mode(self.network, phase, self._options)

    def outputs(self, phase: Phase, images: Images, scales: Noise | None) -> Outputs:
        """Return the scores, and the divergence head's while it is trained."""
        return dytox.score(self.network, phase, images, scales, self._options)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return DyTox's terms, and the neighbourhoods' if they are asked for."""
        if phase.name != self._main.name:
            return dytox.balanced_terms(batch, outputs, self._options)
        remembered = dytox.teacher_outputs(self.teacher, batch)
        if remembered is None:
            return dytox.main_terms(task, batch, outputs, None, self._options)
        terms = dytox.main_terms(task, batch, outputs, remembered.logits, self._options)
        if self._neighbours is not None:
            theirs = remembered.features.embeddings
            ours = outputs.features.embeddings[:, : theirs.shape[1]]
            moved = neighbour_distillation(ours, theirs, self._neighbours.loss)
            terms["neighbours"] = self._neighbours.weight * task.num_old / task.num_seen * moved
        return terms

    def readouts(self) -> dict[str, Readout]:
        """Describe the scores: sigmoids, unless the recipe classifies by softmax."""
        return dytox.read_by(self._options)


MAIN_PARTS = ("encoder", "decoder", "new_bank", "new_head", "divergence")
"""Parts that the main phase trains: in the first task there is nothing old. DAFormer-S's only bank is the newest."""
FINETUNING_PARTS = ("decoder", "old_banks", "new_bank", "old_heads", "new_head")
"""Parts that balanced fine-tuning trains: all banks and heads, on a frozen encoder."""
