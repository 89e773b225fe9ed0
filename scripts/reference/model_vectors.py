"""The comparison of DyTox's or DAFormer's golden vectors with our network, losses and optimisers.

Compared of each task: forward values, loss terms, gradients, MixUp, AdamW steps on the fixed batch, one
sharpness-aware step. The teacher of a task is the network as it stood when the task before it started.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Batch, Optimiser, Phase, Schedule, Task, View
from cl_lightning.data.augmentation.mixup import mixup, one_hot
from cl_lightning.methods import daformer, dytox
from cl_lightning.methods.base import Method, frozen_copy
from cl_lightning.methods.daformer import DAFormer
from cl_lightning.methods.dytox import DyTox, DyToxOptions
from cl_lightning.models.build import build_network
from cl_lightning.models.task_network import TaskNetwork
from cl_lightning.optim.optimiser import make_optimiser
from cl_lightning.optim.sam import ascend, descend
from cl_lightning.published.weights import GOLDEN, GOLDEN_DAFORMER, Names
from scripts.reference.difference import Row, Verdict, absent, difference, failure, lacking
from scripts.reference.vector_settings import Settings
from scripts.reference.vectors import META, VectorFile, names_in, rebuild

FORWARD = 1e-5
"""Bound of forward values, losses and the point that sharpness-aware minimisation climbs to."""
ON_THE_WAY = 1e-6
"""Bound of the losses that AdamW's steps start from. Those of the sharpness-aware step have ``FORWARD``: the second is
taken at a point that is itself known no better.
"""
STEPPED = 5e-5
"""Bound of parameters after optimiser steps."""
NO_GRADIENT = "attn.pos_proj.bias"
"""Adds the same to all positions before a softmax: its true gradient is zero. Adam divides what rounding leaves of it
by its own size, so that the sign of each step is arbitrary."""
_OPTIONAL = ("tokens",)
_NEW_BANK = "new_key_bank_is_zero"


def gradient_bound(theirs: Tensor) -> float:
    """Return the bound of a gradient: 1e-6 and 1e-4 of its tensor's largest entry."""
    return 1e-6 + 1e-4 * (theirs.abs().max().item() if theirs.numel() else 0.0)


_METHODS: dict[str, tuple[Callable[..., Method], tuple[str, ...]]] = {
    GOLDEN.model: (DyTox, dytox.MAIN_PARTS),
    GOLDEN_DAFORMER.model: (DAFormer, daformer.MAIN_PARTS),
}
"""Model whose names a file has -> the method, and the parts that its main phase trains."""


class Rebuilt:
    """A task of the file, set up for training in its main phase."""

    def __init__(self, file: VectorFile, index: int, settings: Settings | None = None) -> None:
        """Build task ``index`` and its teacher; ``ValueError`` says what in the file does not fit."""
        self.settings = settings or Settings.of(file.meta)
        self.network = rebuild(file, index)
        self.task = _task(index, self.network)
        self.optimiser = Optimiser("adamw", self.settings.lr, self.settings.weight_decay, decay_vectors=False)
        self.names = names_in(file)
        made, parts = _METHODS[self.names.model]
        self.phase = Phase("main", View.MERGED, 1, self.optimiser, Schedule("constant"), parts)
        options = DyToxOptions(
            distillation=True,
            temperature=self.settings.distillation_tau,
            divergence_weight=self.settings.head_div_weight,
            sharpness_from_task=1,
            softmax=False,
            distillation_class_mean=True,
            rehearsal=True,
            herd_augmented=False,
            herd_distinct=False,
            herd_after_finetuning=False,
            finetune_first=False,
            statistics_in_frozen=False,
            reconstruction_weight=0.0,
            reconstruction_reduction="mean",
        )
        self.method = made(self.network, self.phase, None, options)
        if index > 0:
            self.method.teacher = frozen_copy(_teacher(file, self.task))
        self.trained: list[nn.Parameter] = []
        for name, part in self.network.parts().items():
            for parameter in part:
                parameter.requires_grad_(name in parts)
            self.trained += part if name in parts else []
        self.batch = _batch(file, self.task, self.network)
        self._start = {name: value.clone() for name, value in self.network.state_dict().items()}

    def restart(self) -> None:
        """Restore the parameters of the file, without gradients."""
        self.network.load_state_dict(self._start)
        self.network.zero_grad(set_to_none=True)

    def terms(self, batch: Batch | None = None) -> dict[str, Tensor]:
        """Return the weighted loss terms, of the file's batch unless another is given."""
        batch = batch or self.batch
        return self.method.losses(self.task, self.phase, batch, self.method.outputs(self.phase, batch.images, None))

    def mixed(self) -> Batch:
        """Return the batch mixed with itself in reverse order, targets smoothed."""
        smoothed = one_hot(self.batch.labels, self.task.num_seen, self.settings.label_smoothing)
        images, targets = mixup(self.batch.images, smoothed, [self.settings.mixup_lambda])
        return Batch(images, self.batch.labels, targets)

    def backward(self) -> float:
        """Compute gradients of the total loss at the present parameters; returns the loss."""
        for parameter in self.trained:
            parameter.grad = None
        loss = total(self.terms())
        loss.backward()
        return loss.item()

    def adamw(self) -> torch.optim.Optimizer:
        """Return the optimiser of the file's steps."""
        made = make_optimiser(self.optimiser, self.trained, self.settings.lr)
        for group in made.param_groups:
            group.update(betas=self.settings.adam_betas, eps=self.settings.adam_eps)
        return made


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """Return the training loss."""
    return torch.stack(list(terms.values())).sum()


def _task(index: int, network: TaskNetwork) -> Task:
    sizes = network.classifier.sizes()
    if len(sizes) != index + 1:
        raise InvalidFileError(f"task{index}/params", f"have {len(sizes)} heads: task {index} must have {index + 1}")
    classes = tuple(range(sum(sizes[:-1]), sum(sizes)))
    return Task(index, classes, tuple(map(str, classes)), torch.empty(0), torch.empty(0))


def _teacher(file: VectorFile, task: Task) -> TaskNetwork:
    before = f"task{task.index - 1}/params"
    try:
        teacher = rebuild(file, task.index - 1)
    except ValueError as error:
        raise InvalidFileError(before, f", the teacher, cannot be rebuilt: {error}") from error
    if sum(teacher.classifier.sizes()) != task.num_old:
        raise InvalidFileError(
            before, f"have heads for {teacher.classifier.sizes()} classes, {task.num_old} came before"
        )
    return teacher


def _batch(file: VectorFile, task: Task, network: TaskNetwork) -> Batch:
    images, labels = file.images, file[f"task{task.index}/y"]
    sizes = network.encoder.structure()
    shape = (sizes["channels"], sizes["image_size"], sizes["image_size"])
    if images.ndim != 4 or tuple(images.shape[1:]) != shape or images.dtype != torch.float32 or not len(images):
        got = f"{images.dtype} of shape {tuple(images.shape)}"
        raise InvalidFileError(
            "x", f"is {got}: the parameters ask for float32 of shape (B, {', '.join(map(str, shape))})"
        )
    if labels.shape != images.shape[:1] or labels.is_floating_point():
        reason = f"is of shape {tuple(labels.shape)}: it must be {len(images)} whole numbers"
        raise InvalidFileError(f"task{task.index}/y", reason)
    if labels.min() < 0 or labels.max() >= task.num_seen:
        raise InvalidFileError(f"task{task.index}/y", f"has labels outside 0..{task.num_seen - 1}")
    labels = labels.long()
    return Batch(images, labels, one_hot(labels, task.num_seen))


# ---- comparison ------------------------------------------------------------------------------------------------------


def is_input(entry: str) -> bool:
    """Return whether an entry is an input of others, in no need of a comparison."""
    return entry in (META, "x") or re.match(r"task\d+/(y$|params/)", entry) is not None


def rows(file: VectorFile) -> Iterator[Row]:
    """Compare every task.

    Raises:
        ValueError: a file without ``x`` or without any task, or with hyper-parameters that are impossible.
    """
    settings = Settings.of(file.meta)
    if "x" not in file or not file.tasks():
        raise InvalidFileError(
            file.path, f"has {'no task' if 'x' in file else 'no images x'}: nothing in it can be checked"
        )
    increments = file.meta.get("increments", [])
    if not isinstance(increments, list):
        raise InvalidFileError(META, f"says increments={increments!r}: it must be a list, the classes of each task")
    for index in sorted({*file.tasks(), *range(len(increments))}):
        if not file.names(f"task{index}/params/"):
            yield lacking(f"task{index}/params")
            continue
        try:
            rebuilt = Rebuilt(file, index, settings)
        except ValueError as error:
            yield failure(f"task{index}", str(error))
            continue
        yield from _sizes(file, rebuilt)
        for part in (_growth, _forward, _losses, _gradients, _mixup, _adamw, _sharpness):
            rebuilt.restart()
            yield from part(file, f"task{index}/", rebuilt)


def _sizes(file: VectorFile, rebuilt: Rebuilt) -> Iterator[Row]:
    """Compare ``meta.json`` with the shapes, which decide."""
    sizes, task = rebuilt.network.encoder.structure(), rebuilt.task
    found = {
        "embed_dim": sizes["dim"], "num_heads": sizes["num_heads"], "num_sab": sizes["depth"],
        "image_size": sizes["image_size"], "patch_size": sizes["patch_size"], "batch": len(file.images),
    }  # fmt: skip
    stated = {name: file.meta.get(name, value) for name, value in found.items()}
    if "increments" in file.meta:
        found["increments"] = rebuilt.network.classifier.sizes()
        stated["increments"] = file.meta["increments"][: task.index + 1]
    for name, value in found.items():
        if stated[name] != value:
            yield failure(META, f"{name} is {stated[name]}, the entries of task {task.index} say {value}")


def _growth(file: VectorFile, prefix: str, rebuilt: Rebuilt) -> Iterator[Row]:
    """Compare a bank that has just been appended."""
    entry, index = f"{prefix}{_NEW_BANK}", rebuilt.task.index
    if entry not in file:
        return
    grown = rebuild(file, index - 1) if index > 0 else _before_any_task(rebuilt.network)
    grown.grow(1, Key(0))
    zero = all(not parameter.any() for parameter in grown.parts()["new_bank"])
    yield _entry(file, entry, torch.tensor(zero), 0.0)


def _before_any_task(network: TaskNetwork) -> TaskNetwork:
    built = build_network({**network.structure(), "classes": []}, Key(0))
    assert isinstance(built, TaskNetwork)
    return built


@torch.no_grad()
def _forward(file: VectorFile, prefix: str, rebuilt: Rebuilt) -> Iterator[Row]:
    features = rebuilt.network(file.images)
    ours = {
        "tokens": features.maps[-1],
        "embeddings": features.embeddings,
        "logits": rebuilt.network.logits(features),
        "divergence_logits": rebuilt.network.auxiliary(features),
    }
    for name, value in ours.items():
        if prefix + name in file or value is not None:
            yield _entry(file, prefix + name, value, FORWARD, optional=name in _OPTIONAL)


def _losses(file: VectorFile, prefix: str, rebuilt: Rebuilt) -> Iterator[Row]:
    yield from _terms(file, f"{prefix}loss/", rebuilt.terms(), with_total=True)


def _terms(file: VectorFile, folder: str, terms: dict[str, Tensor], with_total: bool) -> Iterator[Row]:
    """Compare loss terms; those that a task does not have count as 0."""
    ours = {**terms, "total": total(terms)}
    for name in ("classification", "distillation", "divergence", "total"):
        needed = name in terms or (name == "total" and with_total)
        if needed or folder + name in file:
            yield _entry(file, folder + name, ours.get(name, torch.zeros(())), FORWARD)


def _gradients(file: VectorFile, prefix: str, rebuilt: Rebuilt) -> Iterator[Row]:
    rebuilt.backward()
    folder = f"{prefix}grads/"
    for name, parameter in rebuilt.network.named_parameters():
        yield _parameter(file, folder, rebuilt.names, name, parameter.grad, gradient_bound)
    yield from _uncalled(file, folder, rebuilt)


def _mixup(file: VectorFile, prefix: str, rebuilt: Rebuilt) -> Iterator[Row]:
    folder = f"{prefix}mixup/"
    if not file.names(folder):
        yield absent(folder)
        return
    batch = rebuilt.mixed()
    yield _entry(file, f"{folder}targets", batch.targets, FORWARD)
    yield from _terms(file, f"{folder}loss/", rebuilt.terms(batch), with_total=False)


def _adamw(file: VectorFile, prefix: str, rebuilt: Rebuilt) -> Iterator[Row]:
    folder = f"{prefix}adamw/"
    if not file.names(folder):
        yield absent(folder)
        return
    optimiser, losses = rebuilt.adamw(), []
    for _ in range(rebuilt.settings.steps):
        losses.append(rebuilt.backward())
        optimiser.step()
    yield _entry(file, f"{folder}losses", torch.tensor(losses, dtype=torch.float64), ON_THE_WAY)
    yield from _parameters(file, f"{folder}params/", rebuilt, STEPPED, rebuilt.settings.reach(rebuilt.settings.steps))


def _sharpness(file: VectorFile, prefix: str, rebuilt: Rebuilt) -> Iterator[Row]:
    folder = f"{prefix}asam/"
    if not file.names(folder):
        yield absent(folder)
        return
    optimiser, losses = rebuilt.adamw(), [rebuilt.backward()]
    moved = ascend(rebuilt.trained, rebuilt.settings.sam_rho, rebuilt.settings.sam_adaptive)
    yield from _parameters(file, f"{folder}perturbed/", rebuilt, FORWARD)
    losses.append(rebuilt.backward())
    descend(moved)
    optimiser.step()
    yield _entry(file, f"{folder}losses", torch.tensor(losses, dtype=torch.float64), FORWARD)
    yield from _parameters(file, f"{folder}params/", rebuilt, STEPPED, rebuilt.settings.reach(1))


def _parameters(
    file: VectorFile, folder: str, rebuilt: Rebuilt, bound: float, reach: float | None = None
) -> Iterator[Row]:
    """Compare all parameters; ``reach`` excuses the one without a true gradient as far as Adam's steps can move it."""
    for name, parameter in rebuilt.network.named_parameters():
        excused = reach is not None and name.endswith(NO_GRADIENT)
        row = _parameter(
            file, folder, rebuilt.names, name, parameter, reach if excused and reach is not None else bound
        )
        if excused and row.verdict is Verdict.EQUAL:
            note = "its true gradient is zero: Adam steps along rounding noise"
            row = Row(row.entry, Verdict.EXCUSED, row.absolute, row.relative, row.bound, note)
        yield row
    yield from _uncalled(file, folder, rebuilt)


def _parameter(
    file: VectorFile,
    folder: str,
    names: Names,
    ours: str,
    value: Tensor | None,
    bound: float | Callable[[Tensor], float],
) -> Row:
    """Compare our parameter ``ours``, or its gradient, with theirs."""
    entry = folder + names.theirs(ours)
    if entry not in file:
        return lacking(entry)
    theirs = names.our_shape(ours, file[entry])
    return difference(entry, value, theirs, bound if isinstance(bound, float) else bound(theirs))


def _uncalled(file: VectorFile, folder: str, rebuilt: Rebuilt) -> Iterator[Row]:
    """Check that layers that are never called have no gradient, and do not change."""
    start = f"task{rebuilt.task.index}/params/"
    for name in file.names(folder):
        if name.startswith(rebuilt.names.uncalled or "\0"):
            ours = None if folder.endswith("grads/") else file[start + name]
            yield difference(folder + name, ours, file[folder + name], 0.0)


def _entry(
    file: VectorFile,
    entry: str,
    ours: Tensor | None,
    bound: float | Callable[[Tensor], float],
    optional: bool = False,
) -> Row:
    if entry not in file:
        return absent(entry) if optional else lacking(entry)
    theirs = file[entry]
    return difference(entry, ours, theirs, bound if isinstance(bound, float) else bound(theirs))
