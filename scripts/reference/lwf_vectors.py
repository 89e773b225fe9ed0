"""Comparison of LwF's golden vectors with ours: terms, totals and gradients of random scores, of PyCIL and FACIL."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch.nn import functional as F

from cl_lightning.losses.classification import new_class_cross_entropy
from cl_lightning.losses.distillation import soft_cross_entropy
from scripts.reference.difference import Row, difference, failure, lacking
from scripts.reference.vectors import META, VectorFile

_SOURCES = {"pycil": (3.0, "lamda"), "facil": (1.0, "lamb")}
"""Source of the numbers -> the weight of its distillation where the file has none, and its name there."""
_TERMS = ("distillation", "total", "grad")
_BOUNDS = {"pycil": 2e-6, "facil": 1e-4}
"""Largest difference, per unit of the weight. FACIL adds 1e-5 to its probabilities, which moves terms by up to 3e-5."""


def matches(file: VectorFile) -> bool:
    """Return whether it has terms of either source."""
    return any(re.fullmatch(r"task\d+/(pycil|facil)/distillation", name) for name in file.names())


def is_input(entry: str) -> bool:
    """Return whether others are computed from it."""
    return entry == META or entry.rpartition("/")[2] in ("logits", "teacher_logits", "y")


def rows(file: VectorFile) -> Iterator[Row]:
    """Compare the terms of every task."""
    for task in file.tasks():
        needed = [f"task{task}/{name}" for name in ("logits", "teacher_logits", "y")]
        missing = [name for name in needed if name not in file]
        if missing:
            yield from map(lacking, missing)
            continue
        yield from _task(file, f"task{task}/")


def _task(file: VectorFile, folder: str) -> Iterator[Row]:
    logits, teacher, labels = (file[folder + name] for name in ("logits", "teacher_logits", "y"))
    num_old = teacher.shape[1]
    if not (num_old <= int(labels.min()) <= int(labels.max()) < logits.shape[1]):
        yield failure(folder + "y", f"labels are not all of the new classes {num_old} to {logits.shape[1] - 1}")
        return
    targets = F.one_hot(labels, logits.shape[1]).to(logits)
    if folder + "classification" in file:
        ours = new_class_cross_entropy(logits, targets, num_old)
        yield difference(folder + "classification", ours, file[folder + "classification"], _BOUNDS["pycil"])
    for source, (usual, name) in _SOURCES.items():
        options = file.meta.get(source, {})
        weight, temperature = float(options.get(name, usual)), float(options.get("T", 2.0))
        scores = logits.clone().requires_grad_()
        distilled = soft_cross_entropy(scores[:, :num_old], teacher, temperature)
        total = weight * distilled + new_class_cross_entropy(scores, targets, num_old)
        found = {"distillation": distilled, "total": total, "grad": torch.autograd.grad(total, scores)[0]}
        for term in _TERMS:
            entry = f"{folder}{source}/{term}"
            if entry in file:
                yield difference(entry, found[term], file[entry], _BOUNDS[source] * max(1.0, weight))
