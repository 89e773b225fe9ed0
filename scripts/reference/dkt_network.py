"""DKT's network and training steps rebuilt from golden vectors: names, sizes, weights and batch statistics."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Batch, Optimiser, Outputs, Phase, Schedule, Task, View
from cl_lightning.data.augmentation.mixup import one_hot
from cl_lightning.learning.replicas import losses_by_replica
from cl_lightning.methods import dkt
from cl_lightning.methods.base import frozen_copy
from cl_lightning.methods.dkt import DKT, DKTOptions
from cl_lightning.methods.dytox import DyToxOptions
from cl_lightning.models.build import build_network
from cl_lightning.models.conv_vit import GENERAL_TOKEN
from cl_lightning.models.replica_norm import set_replicas
from cl_lightning.models.task_network import TaskNetwork
from cl_lightning.optim.optimiser import make_optimiser
from scripts.reference.vectors import META, VectorFile

_PREFIXES = (
    ("patch_embed.proj1.", "encoder.patch_embed.conv1."),
    ("patch_embed.proj2.", "encoder.patch_embed.norm."),
    ("patch_embed.proj4.", "encoder.patch_embed.conv2."),
    ("general_token", "encoder.general_token"),
    ("encoder.", "encoder.blocks."),
    ("task_tokens.", "decoder.tokens."),
    ("decoder.", "decoder."),
    ("head.0.", "classifier.stable."),
    ("head.1.", "classifier.plastic."),
)
"""Start of a name in the file -> ours; the first that fits holds."""
_STEPS_COUNTED = ".num_batches_tracked"


def ours(theirs: str) -> str:
    """Return our name of a parameter or buffer of the file; ``ValueError`` for one that there is not."""
    for start, own in _PREFIXES:
        if theirs.startswith(start):
            return own + theirs[len(start) :]
    raise InvalidFileError(theirs, "has no place in DKT's network")


def rebuild(file: VectorFile, task: int) -> TaskNetwork:
    """Build the network as it stood when ``task`` started training. ``ValueError`` says what does not fit."""
    folder = f"task{task}/"
    network = empty(file, task)
    load(network, {**file.folder(f"{folder}params/"), **file.folder(f"{folder}buffers/")}, strict=True)
    return network


def empty(file: VectorFile, task: int) -> TaskNetwork:
    """Build a network of these shapes."""
    meta, images = file.meta, file.images
    missing = [name for name in ("dim", "heads", "blocks", "mlp_ratio", "sizes") if name not in meta]
    if missing:
        raise InvalidFileError(META, f"does not say {', '.join(missing)}")
    patch = 2 * file[f"task{task}/params/patch_embed.proj4.weight"].shape[-1]
    encoder = {
        "kind": "conv_vit", "image_size": images.shape[-1], "channels": images.shape[1], "patch_size": patch,
        "dim": meta["dim"], "num_heads": meta["heads"], "depth": meta["blocks"], "mlp_ratio": meta["mlp_ratio"],
        "drop_path": 0.0, "general_token": True,
    }  # fmt: skip
    structure = {
        "kind": "task_network",
        "encoder": encoder,
        "decoder": {"kind": "knowledge_transfer", "expansion": True, "mlp": "conv", "qkv_bias": True},
        "classifier": {"kind": "duplex", "merge": "published"},
        "diverge": False,
        "classes": meta["sizes"][: task + 1],
    }
    network = build_network(structure, Key(0))
    assert isinstance(network, TaskNetwork)
    return network


def load(network: TaskNetwork, theirs: Mapping[str, Tensor], *, strict: bool) -> None:
    """Overwrite weights and statistics with those given by their names; ``strict``: with all of them."""
    own = network.state_dict()
    given = {ours(name): value for name, value in theirs.items()}
    for name, value in given.items():
        if name not in own or own[name].shape != value.shape:
            raise InvalidFileError(name, f"of shape {tuple(value.shape)} has no place in the network")
    lacking = [name for name in own if name not in given and not name.endswith(_STEPS_COUNTED)]
    if strict and lacking:
        raise InvalidFileError(", ".join(lacking[:3]), f"and {len(lacking)} in all are missing")
    network.load_state_dict({**own, **given})


def ended(file: VectorFile, task: int) -> TaskNetwork:
    """Build the network as ``task`` left it, the teacher of the next one."""
    network = rebuild(file, task)
    for phase in ("adamw", "finetuning"):
        for kind in ("params", "buffers"):
            load(network, file.folder(f"task{task}/{phase}/{kind}/"), strict=False)
    return network


def options(meta: Mapping[str, Any]) -> DKTOptions:
    """Return the published options."""
    shared = DyToxOptions(
        distillation=True,
        temperature=meta.get("tau", 1.0),
        divergence_weight=0.0,
        sharpness_from_task=0,
        softmax=False,
        distillation_class_mean=True,
        rehearsal=True,
        herd_augmented=False,
        herd_distinct=False,
        herd_after_finetuning=False,
        finetune_first=False,
        statistics_in_frozen=True,
        reconstruction_weight=0.0,
        reconstruction_reduction="mean",
    )
    return DKTOptions(shared, meta.get("similarity_weight", 0.003), "pairs", classification_twice=True)


def _phase(name: str, meta: Mapping[str, Any], parts: tuple[str, ...]) -> Phase:
    told = meta.get({"main": "adamw"}.get(name, name), {})
    optimiser = Optimiser("adamw", told.get("lr", 1e-3), told.get("weight_decay", 0.05), decay_vectors=False)
    return Phase(name, View.MERGED, 1, optimiser, Schedule("constant"), (*parts, GENERAL_TOKEN))


class Rebuilt:
    """A task of the file, set up for training."""

    def __init__(self, file: VectorFile, index: int) -> None:
        """Build task ``index`` and its teacher; ``ValueError`` says what in the file does not fit."""
        sizes = file.meta["sizes"]
        classes = tuple(range(sum(sizes[:index]), sum(sizes[: index + 1])))
        self.task = Task(index, classes, tuple(map(str, classes)), torch.empty(0), torch.empty(0))
        self.network = rebuild(file, index)
        labels = file[f"task{index}/y"].long()
        self.batch = Batch(file.images, labels, one_hot(labels, self.task.num_seen))
        self.main = _phase("main", file.meta, dkt.MAIN_PARTS)
        self.finetuning = _phase("finetuning", file.meta, dkt.FINETUNING_PARTS)
        self.method = DKT(self.network, self.main, self.finetuning, options(file.meta))
        if index > 0:
            self.method.teacher = frozen_copy(ended(file, index - 1))
        self._start = copy.deepcopy(self.network.state_dict())
        self.theirs = {ours(name): name for name in file.names(f"task{index}/params/")}
        """Our names of parameters -> the file's."""
        self.steps_taken = 0
        """Optimiser steps since the weights were the file's."""

    def restart(self, phase: Phase, replicas: int = 1) -> None:
        """Restore the weights and statistics of the file, and prepare for ``phase``."""
        self.network.load_state_dict(self._start)
        self.steps_taken = 0
        self.prepare(phase, replicas)

    def prepare(self, phase: Phase, replicas: int = 1) -> None:
        """Set the mode of ``phase``, and freeze what it does not train."""
        set_replicas(self.network, replicas)
        self.method.train_mode(phase)
        for name, part in self.network.parts().items():
            for parameter in part:
                parameter.requires_grad_(name in phase.trains)
                parameter.grad = None

    def part(self, index: int, parts: int) -> Batch:
        """Return one of so many equal consecutive parts of the file's batch."""
        images, labels, targets = (
            each.chunk(parts)[index] for each in (self.batch.images, self.batch.labels, self.batch.targets)
        )
        return Batch(images, labels, targets)

    def terms(self, phase: Phase, replicas: int = 1, batch: Batch | None = None) -> dict[str, Tensor]:
        """Return the weighted loss terms of a batch, the file's by default, at the present weights."""
        batch = batch or self.batch
        outputs: Outputs = self.method.outputs(phase, batch.images, None)
        return losses_by_replica(self.method, self.task, phase, batch, outputs, replicas)

    def steps(self, phase: Phase, count: int) -> Tensor:
        """Take optimiser steps on the batch by a new optimiser; returns the loss in front of each."""
        trained = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimiser = make_optimiser(phase.optimiser, trained, phase.optimiser.lr)
        losses = []
        for _ in range(count):
            optimiser.zero_grad(set_to_none=True)
            loss = total(self.terms(phase))
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            self.steps_taken += 1
        return torch.tensor(losses, dtype=torch.float64)


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """Return the training loss."""
    return torch.stack(list(terms.values())).sum()
