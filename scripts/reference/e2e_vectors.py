"""Comparison of End-to-End's golden vectors with ours, in float64: losses, rates, noise, steps, variants of an image.

Not compared: FACIL's and inclearn's losses, which are not the paper's, and the rule of noise that the paper cites.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.core.gradient_noise import GradientNoise
from cl_lightning.core.types import Optimiser, Schedule
from cl_lightning.data.augmentation import variants
from cl_lightning.losses.classification import cross_entropy
from cl_lightning.losses.distillation import task_soft_cross_entropy
from cl_lightning.optim.gradients import decay_by_norm
from cl_lightning.optim.optimiser import make_optimiser
from cl_lightning.optim.schedule import learning_rate
from scripts.reference.difference import Row, difference, lacking
from scripts.reference.vectors import VectorFile

_RELATIVE = 1e-9
_TEMPERATURE, _RATE, _DECAY, _PADDING = 2.0, 0.1, 1e-4, 4
_INPUTS = ("groups", "logits", "teacher_logits", "labels")
_OF_UPDATE = ("update/epoch", "update/weight", "update/summed_gradient", "update/unit_noise", "update/batch")
_OF_VARIANTS = tuple(f"augment/{name}" for name in ("image", "brightness", "contrast", "row_offsets", "column_offsets"))
_OURS = "official_derived"
_NOISE = GradientNoise(0.3, 0.55)
_SCHEDULES = {
    "main": (0.1, Schedule("steps", milestones=(0.25, 0.5, 0.75), gamma=0.1)),
    "balanced": (0.01, Schedule("steps", milestones=(0.3333, 0.6667), gamma=0.1)),
}
_UPDATED = {
    "update/official_derived_weights_after_3_steps": True,
    "update/plain_decay_derived_weights_after_3_steps": False,
}


def matches(file: VectorFile) -> bool:
    """Return whether it has cross-distilled losses."""
    return f"{_OURS}/main_distillation_per_head" in file


def is_input(entry: str) -> bool:
    """Return whether others are computed from it."""
    return entry in (*_INPUTS, *_OF_UPDATE, *_OF_VARIANTS)


def rows(file: VectorFile) -> Iterator[Row]:
    """Compare whatever of the format is there."""
    missing = [name for name in _INPUTS if name not in file]
    if missing:
        yield from map(lacking, missing)
        return
    sizes = file["groups"].tolist()
    yield from _losses(file, "main", sizes[:-1])
    yield from _losses(file, "balanced", sizes)
    yield from _schedules(file)
    for entry, by_norm in _UPDATED.items():
        if entry in file:
            yield _same(entry, _updated(file, by_norm=by_norm), file)
    if "augment/image" in file:
        yield _same("augment/official_derived_variants", _variants(file), file)


def _losses(file: VectorFile, phase: str, sizes: list[int]) -> Iterator[Row]:
    """Compare a phase's terms; ``sizes`` are the classes of each task that its teacher knows."""
    student, teacher = file["logits"].requires_grad_(), file["teacher_logits"]
    known = sum(sizes)
    classified = cross_entropy(student, F.one_hot(file["labels"], student.shape[1]).to(student))
    distilled = task_soft_cross_entropy(student[:, :known], teacher[:, :known], sizes, _TEMPERATURE)
    parts = zip(student[:, :known].split(sizes, 1), teacher[:, :known].split(sizes, 1), strict=True)
    each = [task_soft_cross_entropy(*pair, [pair[0].shape[1]], _TEMPERATURE) for pair in parts]
    (gradient,) = torch.autograd.grad(classified + distilled, student)
    yield _same(f"{_OURS}/{phase}_classification", classified, file)
    yield _same(f"{_OURS}/{phase}_distillation_per_head", torch.stack(each), file)
    yield _same(f"{_OURS}/{phase}_loss", classified + distilled, file)
    yield _same(f"{_OURS}/{phase}_grad_logits", gradient, file)


def _schedules(file: VectorFile) -> Iterator[Row]:
    for phase, (base, schedule) in _SCHEDULES.items():
        entry = f"{_OURS}/lr_{phase}"
        if entry in file:
            epochs = len(file[entry])
            ours = [learning_rate(schedule, base, epoch, epochs) for epoch in range(epochs)]
            yield _same(entry, torch.tensor(ours, dtype=torch.float64), file)
    for name, images in (("summed", 1), ("mean", 128)):
        entry = f"{_OURS}/noise_std_of_{name}_gradient_{'batch128_' if images > 1 else ''}epoch1_to_70"
        if entry in file:
            ours = [_NOISE.deviation(epoch, images) for epoch in range(len(file[entry]))]
            yield _same(entry, torch.tensor(ours, dtype=torch.float64), file)


def _updated(file: VectorFile, *, by_norm: bool) -> Tensor:
    """Return the weights after each of three steps with the same gradient and noise."""
    images = int(file["update/batch"])
    weight = nn.Parameter(file["update/weight"])
    optimiser = make_optimiser(Optimiser("sgd", _RATE, _DECAY, decay_by_norm=by_norm), [weight], _RATE)
    deviation = _NOISE.deviation(int(file["update/epoch"]) - 1, images)
    found = []
    for _ in range(3):
        weight.grad = file["update/summed_gradient"] / images + deviation * file["update/unit_noise"]
        if by_norm:
            decay_by_norm([weight], [_DECAY])
        optimiser.step()
        found.append(weight.detach().clone())
    return torch.stack(found)


def _variants(file: VectorFile) -> Tensor:
    """Return the twelve variants of the image; the file's offsets count from 1."""
    kinds = torch.arange(12)
    tops, lefts = (file[f"augment/{side}_offsets"][kinds % 3] - 1 for side in ("row", "column"))
    shifts, factors = (file[f"augment/{name}"].expand(12) for name in ("brightness", "contrast"))
    images = file["augment/image"].expand(12, -1, -1, -1)
    return variants.levels(images, variants.Variants(kinds, shifts, factors, tops, lefts), _PADDING)


def _same(entry: str, ours: Tensor, file: VectorFile) -> Row:
    theirs = file[entry]
    return difference(entry, ours.detach(), theirs, _RELATIVE * max(1e-3, theirs.abs().max().item()))
