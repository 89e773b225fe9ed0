"""DyTox: transformers for continual learning with dynamic token expansion.

Douillard, Rame, Couairon & Cord (CVPR 2022). One transformer is shared by all tasks; a task brings a token, which asks
the encoder's patches for what the task needs (``models/task_attention.py``), and a small head that reads the answer. In
a task:

1. **grow**: keep a frozen teacher, append token and head, replace the divergence head;
2. **main phase** on the new images and the memory, old tokens and heads frozen:
   L = (1 - a) BCE + a KD + 0.1 BCE_divergence with a = old / seen classes (section 3.3);
3. **herd** exemplars of the new classes with the concatenated task embeddings;
4. **balanced fine-tuning** on the memory alone, encoder frozen, all tokens and heads trained: L = BCE (from the second
task on).

DyTox+ adds MixUp (``Phase.mixing``), DyTox++ also adaptive sharpness-aware minimisation (``Phase.sharpness``):
variations of the phases, not of the method. What a recipe changes (sampling, schedule, frozen parts) is in the phases
too, and in ``DyToxOptions`` where it is a loss or the order of steps 3 and 4. What the paper's ablation takes away is
the network's to say (``models/token_network.py``): nothing here depends on it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_lightning.losses.classification import binary_cross_entropy, cross_entropy, group_old
from cl_lightning.losses.distillation import softmax_distillation
from cl_lightning.methods.base import Method, frozen_copy
from cl_lightning.models.token_network import TokenNetwork
from cl_lightning.rng import Key
from cl_lightning.types import Batch, Evaluate, Fit, Grow, Herd, Look, Outputs, Phase, PlanItem, Readout, Task


@dataclass(frozen=True)
class DyToxOptions:
    """What DyTox leaves to choose; the defaults are the paper's."""

    distillation: bool = True
    temperature: float = 1.0
    divergence_weight: float = 0.1
    sharpness_from_task: int = 1
    """Sharpness-aware steps start with this task (DyTox++ leaves the first out)."""
    softmax: bool = False
    """Classify, in all phases and in the divergence head, by softmax cross-entropy instead of sigmoids: DyTox+ and
    DyTox++ in the public code until 7 May 2022.
    """
    distillation_class_mean: bool = True
    """The mean over the old classes in the distillation, as published; ``False``: their sum, the usual one, which is
    as many times larger as there are old classes.
    """
    rehearsal: bool = True
    """Whether there is a memory: without one there is nothing to herd, and no balanced fine-tuning."""
    herd_augmented: bool = False
    herd_distinct: bool = False
    """iCaRL's own rule of herding; as published, an image that was chosen may win a turn again."""
    herd_after_finetuning: bool = False
    """Choose exemplars by the network as it will be kept. Fine-tuning then has none of the new classes yet: give it a
    phase on ``View.BALANCED``.
    """
    finetune_first: bool = False
    """Fine-tune after the first task too, as published for joint training (a single task)."""


class DyTox(Method):
    """Dynamic token expansion."""

    steps_alike = True
    network: TokenNetwork

    def __init__(self, network: TokenNetwork, main: Phase, finetuning: Phase | None, options: DyToxOptions) -> None:
        super().__init__(network)
        self._main = main
        self._finetuning = finetuning
        self._options = options
        self._classify = cross_entropy if options.softmax else binary_cross_entropy

    def plan(self, task: Task) -> list[PlanItem]:
        """Grow, learn, herd, balance, evaluate."""
        return [Grow(), Fit(self._main_phase(task)), *self._rehearsal(task), Evaluate()]

    def _rehearsal(self, task: Task) -> list[PlanItem]:
        """Herding and balanced fine-tuning, in the order that was asked for."""
        options = self._options
        if not options.rehearsal:
            return []
        herd: list[PlanItem] = [Herd(augmented=options.herd_augmented, distinct=options.herd_distinct)]
        if self._finetuning is None or (task.index == 0 and not options.finetune_first):
            return herd
        balance: list[PlanItem] = [Fit(self._finetuning)]
        return balance + herd if options.herd_after_finetuning else herd + balance

    def _main_phase(self, task: Task) -> Phase:
        if task.index < self._options.sharpness_from_task:
            return dataclasses.replace(self._main, sharpness=None)
        return self._main

    def grow(self, task: Task, key: Key, look: Look) -> None:
        """Keep the teacher, then let the network append what the task needs."""
        distil = self._options.distillation and task.index > 0
        self.teacher = frozen_copy(self.network) if distil else None
        self.network.grow(task.num_new, key)

    def outputs(self, phase: Phase, images: Tensor, scales: Tensor | None) -> Outputs:
        """Scores, and the divergence head's while it is trained."""
        features = self.network(images, scales)
        auxiliary = self.network.auxiliary(features) if "divergence" in phase.trains else None
        return Outputs(self.network.logits(features), features, auxiliary)

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        """Section 3.3: classification, distillation of all old classes, divergence; fine-tuning classifies only."""
        classification = self._classify(outputs.logits, batch.targets)
        if phase.name != self._main.name or task.index == 0:
            return {"classification": classification}
        terms = {"classification": classification}
        if self.teacher is not None:
            share_old = task.num_old / task.num_seen
            with torch.no_grad():
                old = self.teacher.logits(self.teacher(batch.images))
            distilled = softmax_distillation(outputs.logits[:, : task.num_old], old, self._options.temperature)
            if not self._options.distillation_class_mean:
                distilled = distilled * task.num_old
            terms = {"classification": (1 - share_old) * classification, "distillation": share_old * distilled}
        if outputs.auxiliary is not None:
            grouped = group_old(batch.targets, task.num_old)
            terms["divergence"] = self._options.divergence_weight * self._classify(outputs.auxiliary, grouped)
        return terms

    def readouts(self) -> dict[str, Readout]:
        """Sigmoids, unless the recipe classifies by softmax."""
        return {"linear": Readout("softmax" if self._options.softmax else "sigmoid")}


MAIN_PARTS = ("encoder", "decoder", "new_token", "new_head", "divergence")
"""What the main phase trains: in the first task there is nothing old."""
FINETUNING_PARTS = ("decoder", "old_tokens", "new_token", "old_heads", "new_head")
"""What balanced fine-tuning trains: all tokens and heads, on a frozen encoder."""
