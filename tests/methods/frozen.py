"""Parts that the tests of SimpleCIL and RanPAC share: features that are images, and a look at them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cl_lightning.core.rng import Key
from cl_lightning.core.types import Act, Embed, Optimiser, Phase, Schedule, Task, View
from cl_lightning.methods.base import Method
from cl_lightning.methods.frozen_features import ACCUMULATE, MAIN_PARTS
from cl_lightning.models.backbone import Backbone
from tests.golden import GOLDEN

MAIN = Phase("backbone", View.NEW, 1, Optimiser("sgd", 0.1), Schedule("constant"), MAIN_PARTS)


class Identity(Backbone):
    """A backbone whose images (B, 1, 1, D) are their features already."""

    def forward(self, images: Tensor, scales: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        return images.flatten(1), ()

    def structure(self) -> dict[str, Any]:
        return {"kind": "identity"}


@dataclass
class Golden:
    """The features of a golden file as the images of a run, a row each."""

    features: Tensor
    labels: Tensor
    tasks: tuple[Task, ...]
    entries: dict[str, Tensor]
    batch: int = 1000
    exemplars: dict[int, Tensor] = field(default_factory=dict)
    flips: bool = False
    order: Tensor | None = None
    """Number by which a class's rows are sorted, where it is not their own."""

    def rows_of(self, label: int) -> Tensor:
        rows = torch.nonzero(self.labels == label).flatten()
        return rows if self.order is None else rows[self.order[rows].argsort()]

    def embed(self, rows: Tensor, embed: Embed, *, flip: bool = False) -> Tensor:
        images = self.features[rows][:, None, None]
        return torch.cat([embed(part).detach() for part in images.split(self.batch)])

    def test(self, classes: int) -> Tensor:
        """Images to predict, of the classes seen."""
        return self.entries["test/features"][self.entries["test/labels"] < classes][:, None, None]


def golden(name: str) -> Golden:
    with np.load(GOLDEN / name, allow_pickle=False) as archive:
        entries = {key: torch.from_numpy(archive[key]) for key in archive.files if archive[key].dtype.kind != "U"}
    count = len([key for key in entries if key.startswith("task") and key.endswith("/labels")])
    labels = [entries[f"task{index}/labels"] for index in range(count)]
    features = torch.cat([entries[f"task{index}/features"] for index in range(count)])
    tasks, first = [], 0
    for index, of_task in enumerate(labels):
        classes = tuple(sorted(set(of_task.tolist())))
        rows = torch.arange(first, first + len(of_task))
        tasks.append(Task(index, classes, tuple(map(str, classes)), rows, rows))
        first += len(of_task)
    return Golden(features, torch.cat(labels), tuple(tasks), entries)


def learn(method: Method, look: Golden, task: Task) -> None:
    """Carry out a task's plan, but for training and evaluation."""
    method.grow(task, Key(task.index), look)
    assert Act(ACCUMULATE) in method.plan(task)
    method.network.eval()
    method.act(ACCUMULATE, task, look)


@torch.no_grad()
def scores(method: Method, images: Tensor) -> Tensor:
    (found,) = method.predict(images).values()
    return found
