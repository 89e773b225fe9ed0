"""Losses of several virtual replicas: each part by itself where images are compared, all together otherwise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cl_lightning.core.types import Batch, Features, Outputs, Phase, Task
from cl_lightning.learning.replicas import losses_by_replica
from tests.learning.a_phase import PHASE, TASKS, Toy, toy

SIZE = 6


class Coupled(Toy):
    """A loss that compares images: the largest score of a batch, and what it was shown of everything else."""

    couples_batch = True
    shown: list[tuple[Batch, Outputs]]

    def losses(self, task: Task, phase: Phase, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
        self.shown.append((batch, outputs))
        return {"largest": outputs.logits.max(), "mean": outputs.logits.mean()}


def coupled() -> Coupled:
    made = Coupled(toy(2).network)
    made.shown = []
    return made


LOGITS = torch.tensor([[1.0], [2.0], [3.0], [10.0], [20.0], [60.0]])


def example(*, auxiliary: bool = False) -> tuple[Batch, Outputs]:
    rows = torch.arange(SIZE)
    batch = Batch(rows.view(-1, 1, 1, 1).float(), rows, rows[:, None].float())
    maps = (rows[:, None] + 100, rows[:, None] + 200)
    return batch, Outputs(LOGITS, Features(rows.view(-1, 1, 1), maps), rows[:, None] + 300 if auxiliary else None)


def losses(method: Any, replicas: int, **options: bool) -> dict[str, float]:
    found = losses_by_replica(method, TASKS[0], PHASE, *example(**options), replicas)
    return {name: value.item() for name, value in found.items()}


def test_a_loss_that_compares_images_is_the_mean_over_replicas() -> None:
    assert losses(coupled(), 1) == {"largest": 60.0, "mean": 16.0}
    assert losses(coupled(), 2) == {"largest": (3 + 60) / 2, "mean": 16.0}
    assert losses(coupled(), 3) == {"largest": (2 + 10 + 60) / 3, "mean": 16.0}


def test_parts_are_consecutive_in_all_that_a_method_is_shown() -> None:
    method = coupled()
    losses(method, 2, auxiliary=True)
    for start, (batch, outputs) in zip((0, 3), method.shown, strict=True):
        rows = list(range(start, start + 3))
        assert batch.labels.tolist() == batch.images.flatten().tolist() == batch.targets.flatten().tolist() == rows
        assert outputs.features.embeddings.flatten().tolist() == rows
        assert [each.flatten().tolist() for each in outputs.features.maps] == [
            [row + 100 for row in rows], [row + 200 for row in rows]
        ]  # fmt: skip
        assert outputs.auxiliary is not None
        assert outputs.auxiliary.flatten().tolist() == [row + 300 for row in rows]


def test_any_other_loss_is_taken_once() -> None:
    method = coupled()
    method.couples_batch = False
    assert losses(method, 3)["largest"] == 60.0
    ((batch, outputs),) = method.shown
    assert len(batch.labels) == SIZE
    assert outputs.auxiliary is None


def test_gradients_reach_every_replica() -> None:
    batch, outputs = example()
    logits = LOGITS.clone().requires_grad_()
    found = losses_by_replica(coupled(), TASKS[0], PHASE, batch, Outputs(logits, outputs.features), 2)
    found["largest"].backward()
    assert logits.grad is not None
    assert logits.grad.flatten().tolist() == [0, 0, 0.5, 0, 0, 0.5]


def test_weights_are_cut_with_their_images() -> None:
    method, (batch, outputs) = coupled(), example()
    weighted = Batch(batch.images, batch.labels, batch.targets, torch.arange(SIZE) / 2)
    losses_by_replica(method, TASKS[0], PHASE, weighted, outputs, 3)
    assert [part.weights.tolist() for part, _ in method.shown if part.weights is not None] == [
        [0.0, 0.5], [1.0, 1.5], [2.0, 2.5]
    ]  # fmt: skip
