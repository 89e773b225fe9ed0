"""Comparison of SimpleCIL's golden vectors with ours: class means, cosines and answers on random features (PILOT).

RanPAC's file has the same entries of its nearest-mean mode, under ``ncm/``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.models.frozen_heads import MeanCosines
from scripts.reference.difference import Row, difference, lacking
from scripts.reference.vectors import META, VectorFile

_BOUND = 2e-6
"""Largest difference of float32 numbers, relative to the largest of an entry."""


def matches(file: VectorFile) -> bool:
    """Return whether it has class means at its top level."""
    return any(re.fullmatch(r"task\d+/prototypes", name) for name in file.names())


def is_input(entry: str) -> bool:
    """Return whether others are computed from it."""
    return entry == META or entry.rpartition("/")[2] in ("features", "labels")


def missing_inputs(file: VectorFile) -> list[str]:
    """Return the names of features and labels that the file lacks."""
    needed = [f"{part}/{name}" for part in _parts(file) for name in ("features", "labels")]
    return [name for name in needed if name not in file]


def _parts(file: VectorFile) -> list[str]:
    return ["test", *(f"task{task}" for task in file.tasks())]


def rows(file: VectorFile) -> Iterator[Row]:
    """Compare the entries of every task, and what means of unit features answer instead."""
    missing = missing_inputs(file)
    if missing:
        yield from map(lacking, missing)
        return
    yield from mean_rows(file, "")
    if "of_normalised/predictions" in file:
        head = _head(file, file.tasks()[-1], unit=True)
        answers = head(_test(file, len(head.rows))).argmax(dim=1)
        yield difference("of_normalised/predictions", answers, file["of_normalised/predictions"], 0)


def mean_rows(file: VectorFile, folder: str) -> Iterator[Row]:
    """Compare means, cosines and answers after each task, in the file under ``task{t}/folder``."""
    for task in file.tasks():
        head, where = _head(file, task, unit=False), f"task{task}/{folder}"
        scores = head(_test(file, len(head.rows))).detach()
        found = {"prototypes": head.rows.detach(), "scores": scores, "predictions": scores.argmax(dim=1)}
        for name, ours in found.items():
            if where + name in file:
                theirs = file[where + name]
                bound = 0.0 if name == "predictions" else _BOUND * theirs.abs().max().item()
                yield difference(where + name, ours, theirs, bound)


def _head(file: VectorFile, last: int, *, unit: bool) -> MeanCosines:
    """Return the head after task ``last``: means in float64, kept in float32."""
    tasks = [task for task in file.tasks() if task <= last]
    features = torch.cat([file[f"task{task}/features"] for task in tasks]).double()
    labels = torch.cat([file[f"task{task}/labels"] for task in tasks])
    chosen = F.normalize(features, dim=1) if unit else features
    head, classes = MeanCosines(features.shape[1]), int(labels.max()) + 1
    head.grow(classes)
    head.fill(torch.stack([chosen[labels == label].mean(dim=0) for label in range(classes)]))
    return head


def _test(file: VectorFile, classes: int) -> Tensor:
    return file["test/features"][file["test/labels"] < classes]
