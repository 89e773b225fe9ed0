"""DyTox: transformers for continual learning with dynamic token expansion.

Douillard, Rame, Couairon & Cord (CVPR 2022). One transformer is shared by all tasks; a task brings a token, which
attends to the encoder's patches (``models/task_attention.py``), and a small head that reads the result. In a task:

1. **grow**: copy a frozen teacher, append token and head, replace the divergence head;
2. **main phase** on the new images and the memory, old tokens and heads frozen:
   L = (1 - a) BCE + a KD + 0.1 BCE_divergence with a = old / seen classes (section 3.3);
3. **herd** exemplars of the new classes with the concatenated task embeddings;
4. **balanced fine-tuning** on the memory alone, encoder frozen, all tokens and heads trained: L = BCE (from the second
task on).

DyTox+ adds MixUp (``Phase.mixing``), DyTox++ also adaptive sharpness-aware minimisation (``Phase.sharpness``):
variations of the phases, not of the method. What a recipe changes (sampling, schedule, frozen parts) is in the phases
too, and in ``DyToxOptions`` where it is a loss or the order of steps 3 and 4. The paper's ablations are options of the
network (``models/task_network.py``): nothing in this module depends on them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Batch,
    DataAccess,
    Evaluate,
    Fit,
    Grow,
    Herd,
    Outputs,
    Phase,
    PlanItem,
    Readout,
    Task,
)
from cl_lightning.losses.classification import binary_cross_entropy, cross_entropy, group_old
from cl_lightning.losses.distillation import softmax_distillation
from cl_lightning.losses.reconstruction import reconstruction_errors
from cl_lightning.methods.base import Method, frozen_copy
from cl_lightning.models.network import Network
from cl_lightning.models.replica_norm import hold_statistics
from cl_lightning.models.task_network import TaskNetwork
from cl_lightning.models.tensor_types import Images, Noise


@dataclass(frozen=True)
class DyToxOptions:
    """Options of DyTox; ``conf/method/dytox.yaml`` has the paper's values."""

    distillation: bool
    temperature: float
    divergence_weight: float
    sharpness_from_task: int
    """Sharpness-aware steps start with this task (DyTox++ leaves the first out)."""
    softmax: bool
    """Classify, in all phases and in the divergence head, by softmax cross-entropy instead of sigmoids: DyTox+ and
    DyTox++ in the public code until 7 May 2022.
    """
    distillation_class_mean: bool
    """The mean over the old classes in the distillation, as published; ``False``: their sum, the usual one, which is
    as many times larger as there are old classes.
    """
    rehearsal: bool
    """True if there is a memory: without one there is nothing to herd, and no balanced fine-tuning."""
    herd_augmented: bool
    herd_distinct: bool
    """iCaRL's own rule of herding; as published, an image that was chosen may win a turn again."""
    herd_after_finetuning: bool
    """Choose exemplars by the network after fine-tuning. Fine-tuning then has none of the new classes yet: give it a
    phase on ``View.BALANCED``.
    """
    finetune_first: bool
    """Fine-tune after the first task too, as published for joint training (a single task)."""
    statistics_in_frozen: bool
    """Batch norm takes the statistics of each batch, and moves its own, in parts that are not trained too (DKT's
    encoder has it, DyTox's and DAFormer's have none).
    """
    reconstruction_weight: float
    """Factor of the reconstruction of masked patches, whatever the share of old classes."""
    reconstruction_reduction: str
    """``mean`` or ``sum`` over the values of a patch."""


class DyTox(Method):
    """The method of dynamic token expansion."""

    cuda_graph_safe = True
    network: TaskNetwork

    def __init__(self, network: TaskNetwork, main: Phase, finetuning: Phase | None, options: DyToxOptions) -> None:
        super().__init__(network)
        self._main = main
        self._finetuning = finetuning
        self._options = options

    def plan(self, task: Task) -> list[PlanItem]:
        """Plan: grow, learn, herd, balance, evaluate."""
        return plan_task(task, self._main, self._finetuning, self._options)

    def grow(self, task: Task, key: Key, look: DataAccess) -> None:
        """Copy the teacher, then grow the network."""
        self.teacher = keep_teacher(self.network, task, self._options)
        self.network.grow(task.num_new, key)

    def train_mode(self, phase: Phase) -> None:
        """Let statistics of batch norm move where the recipe says so: an encoder may have it."""
        train_mode(self.network, phase, self._options)

    def outputs(self, phase: Phase, images: Images, scales: Noise | None) -> Outputs:
        """Return the scores, and the divergence head's while it is trained."""
        return score(self.network, phase, images, scales, self._options)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """Return classification, distillation of all old classes and divergence (section 3.3); in fine-tuning
        classification only.
        """
        if phase.name != self._main.name:
            return balanced_terms(batch, outputs, self._options)
        remembered = teacher_outputs(self.teacher, batch)
        return main_terms(task, batch, outputs, None if remembered is None else remembered.logits, self._options)

    def readouts(self) -> dict[str, Readout]:
        """Describe the scores: sigmoids, unless the recipe classifies by softmax."""
        return read_by(self._options)


# ---- shared with methods of other decoders, which are trained in the same way ----------------------------------------


def plan_task(task: Task, main: Phase, finetuning: Phase | None, options: DyToxOptions) -> list[PlanItem]:
    """Plan the steps above; the first tasks may be trained without sharpness-aware steps."""
    if task.index < options.sharpness_from_task:
        main = dataclasses.replace(main, sharpness=None)
    return [Grow(), Fit(main), *_rehearse(task, finetuning, options), Evaluate()]


def _rehearse(task: Task, finetuning: Phase | None, options: DyToxOptions) -> list[PlanItem]:
    """Plan herding and balanced fine-tuning, in the order of the options."""
    if not options.rehearsal:
        return []
    herd: list[PlanItem] = [Herd(augmented=options.herd_augmented, distinct=options.herd_distinct)]
    if finetuning is None or (task.index == 0 and not options.finetune_first):
        return herd
    balance: list[PlanItem] = [Fit(finetuning)]
    return balance + herd if options.herd_after_finetuning else herd + balance


def keep_teacher(network: TaskNetwork, task: Task, options: DyToxOptions) -> Network | None:
    """Copy the network before it grows, from the second task on."""
    return frozen_copy(network) if options.distillation and task.index > 0 else None


def train_mode(network: TaskNetwork, phase: Phase, options: DyToxOptions) -> None:
    """Set training mode, but for batch norms that hold their statistics."""
    network.train()
    if not options.statistics_in_frozen:
        parts = network.parts()
        hold_statistics(network, [p for name in phase.trains for p in parts.get(name, [])])


def score(network: TaskNetwork, phase: Phase, images: Images, scales: Noise | None, options: DyToxOptions) -> Outputs:
    """Run a training forward pass; the divergence head and the branch of reconstruction take part while they are
    trained.
    """
    features = network(images, scales)
    auxiliary = network.auxiliary(features) if "divergence" in phase.trains else None
    found = network.reconstructed(images, scales)
    errors = None if found is None else reconstruction_errors(*found, images, options.reconstruction_reduction)
    return Outputs(network.logits(features), features, auxiliary, errors)


def teacher_outputs(teacher: Network | None, batch: Batch) -> Outputs | None:
    """Return the teacher's outputs of the same images, if there is a teacher: computed once for both passes of a
    sharpness-aware step, which see the same images.
    """
    return None if teacher is None else batch.cached(teacher, lambda: _outputs_without_grad(teacher, batch.images))


@torch.no_grad()
def _outputs_without_grad(teacher: Network, images: Images) -> Outputs:
    features = teacher(images)
    return Outputs(teacher.logits(features), features)


def balanced_terms(batch: Batch, outputs: Outputs, options: DyToxOptions) -> dict[str, Float[Tensor, ""]]:
    """Return the loss terms of fine-tuning: classification alone."""
    return {"classification": _classify(options)(outputs.logits, batch.targets, batch.weights)}


def main_terms(
    task: Task, batch: Batch, outputs: Outputs, old_BC: Float[Tensor, "B C_old"] | None, options: DyToxOptions
) -> dict[str, Float[Tensor, ""]]:
    """Return the loss terms of the main phase; ``old_BC`` are the teacher's scores, if there is a teacher."""
    terms = balanced_terms(batch, outputs, options)
    if old_BC is not None:
        share_old = task.num_old / task.num_seen
        distilled = softmax_distillation(outputs.logits[:, : task.num_old], old_BC, options.temperature)
        if not options.distillation_class_mean:
            distilled = distilled * task.num_old
        terms = {name: (1 - share_old) * term for name, term in terms.items()} | {"distillation": share_old * distilled}
    if outputs.auxiliary is not None and task.index > 0:
        grouped = group_old(batch.targets, task.num_old)
        terms["divergence"] = options.divergence_weight * _classify(options)(outputs.auxiliary, grouped, batch.weights)
    if outputs.reconstruction is not None:
        terms["reconstruction"] = options.reconstruction_weight * outputs.reconstruction.mean()
    return terms


def _classify(options: DyToxOptions) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    return cross_entropy if options.softmax else binary_cross_entropy


def read_by(options: DyToxOptions) -> dict[str, Readout]:
    """Describe the scores: they become probabilities as they were learnt."""
    return {"linear": Readout("softmax" if options.softmax else "sigmoid")}


MAIN_PARTS = ("encoder", "decoder", "new_token", "new_head", "divergence")
"""Parts that the main phase trains: in the first task there is nothing old."""
FINETUNING_PARTS = ("decoder", "old_tokens", "new_token", "old_heads", "new_head")
"""Parts that balanced fine-tuning trains: all tokens and heads, on a frozen encoder."""
