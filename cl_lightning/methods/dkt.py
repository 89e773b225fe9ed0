"""DKT: dynamic knowledge transfer by a general token, one embedding for all classes, and a duplex classifier.

Gao, He, Dong, Cheng, Wei & Gong, "DKT: Diverse Knowledge Transfer Transformer for Class Incremental Learning" (CVPR
2023), after its public code. A transformer of DyTox's family: plan, memory and most of the loss are DyTox's
(``methods/dytox.py``). What differs:

- the encoder (``models/conv_vit.py``), whose last block reads a *general token* that all tasks share;
- the decoder (``models/knowledge_transfer.py``): the newest task's token asks the patches and all tokens, so there is
  one embedding however many tasks there are, and every task changes all scores;
- the classifier (``models/duplex_head.py``): a stable head of old classes, frozen in the main phase, and a plastic one;
- a loss on the directions of embeddings (``losses/pair_similarity.py``) in place of the divergence head:
  L = (1 - a) BCE + a KD + 0.003 L_similarity in the main phase, a = old / seen classes;
- balanced fine-tuning trains decoder and both heads, no token of a task, for few epochs in the first tasks.

Each is chosen by itself: model, decoder and losses go with those of DyTox. The public code has quirks, which
``recipe=dkt_2023_06`` repeats and ``recipe=clean`` does not: it counts the classification twice where there is a
teacher, and others that are the network's, the phases' and the mode's of frozen parts.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from cl_lightning.core.rng import Key
from cl_lightning.core.types import Batch, DataAccess, Outputs, Phase, PlanItem, Readout, Task
from cl_lightning.losses.pair_similarity import pair_similarity
from cl_lightning.methods import dytox
from cl_lightning.methods.base import Method
from cl_lightning.methods.dytox import DyToxOptions
from cl_lightning.models.task_network import TaskNetwork
from cl_lightning.models.tensor_types import Images, Noise


@dataclass(frozen=True)
class DKTOptions:
    """Options of DKT beside those that it shares with DyTox."""

    shared: DyToxOptions
    similarity_weight: float
    """Factor of the loss on directions; 0 omits it."""
    similarity_mean: str
    """Items that this loss is averaged over, one of ``pair_similarity.MEANS``."""
    classification_twice: bool
    """Count the classification twice where there is a teacher, as the public code does."""


@dataclass(frozen=True)
class EarlyTasks:
    """The first tasks, which are fine-tuned in a phase of their own."""

    count: int
    """Number of them, the first task (which may have no fine-tuning) included."""
    finetuning: Phase


class DKT(Method):
    """The method of knowledge transfer, trained much as DyTox is."""

    cuda_graph_safe = True
    network: TaskNetwork

    def __init__(
        self,
        network: TaskNetwork,
        main: Phase,
        finetuning: Phase | None,
        options: DKTOptions,
        early: EarlyTasks | None = None,
    ) -> None:
        """``early`` replaces ``finetuning`` in the first tasks."""
        super().__init__(network)
        self._main = main
        self._finetuning = finetuning
        self._early = early
        self._options = options
        self.couples_batch = options.similarity_weight > 0

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, learn, herd, balance, evaluate."""
        finetuning, early = self._finetuning, self._early
        if early is not None and task.index < early.count:
            finetuning = early.finetuning
        return dytox.plan_task(task, self._main, finetuning, self._options.shared)

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Copy the teacher, then append a token, merge the heads and make a new one."""
        self.teacher = dytox.keep_teacher(self.network, task, self._options.shared)
        self.network.grow(task.num_new, key)

    def train_mode(self, phase: Phase) -> None:
        """Let statistics of batch norm move in frozen parts too where the recipe says so."""
        dytox.train_mode(self.network, phase, self._options.shared)

    def outputs(self, phase: Phase, images: Images, scales: Noise | None) -> Outputs:
        """Return the scores, and the divergence head's if it is asked for."""
        return dytox.score(self.network, phase, images, scales, self._options.shared)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return classification, distillation of all old classes and similarity; in fine-tuning classification only."""
        options, shared = self._options, self._options.shared
        if phase.name != self._main.name:
            return dytox.balanced_terms(batch, outputs, shared)
        remembered = dytox.teacher_outputs(self.teacher, batch)
        if remembered is None:
            return dytox.main_terms(task, batch, outputs, None, shared)
        terms = dytox.main_terms(task, batch, outputs, remembered.logits, shared)
        if options.classification_twice:
            terms["classification"] = 2 * terms["classification"]
        if options.similarity_weight > 0:
            ours, theirs = (each.features.embeddings[:, -1] for each in (outputs, remembered))
            similarity = pair_similarity(ours, theirs, batch.labels, task.num_old, options.similarity_mean)
            terms["similarity"] = options.similarity_weight * similarity
        return terms

    def readouts(self) -> dict[str, Readout]:
        """Describe the scores: sigmoids, unless the recipe classifies by softmax."""
        return dytox.read_by(self._options.shared)


MAIN_PARTS = ("encoder", "decoder", "new_token", "new_head", "divergence")
"""Parts that the main phase trains: in the first task there is nothing old."""
FINETUNING_PARTS = ("decoder", "old_heads", "new_head")
"""Parts that balanced fine-tuning trains: both heads, and the decoder without its tokens."""
