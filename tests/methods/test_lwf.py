"""LwF's own promises: what the teacher said of new images is kept, and only new classes compete without a memory."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.core.types import Batch, Fit, Herd, Optimiser, Phase, Schedule, Task, View
from cl_lightning.factory.data import build_scenario
from cl_lightning.factory.methods import build_method
from cl_lightning.methods.lwf import PARTS, LwF
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.resnet import CifarResNet
from tests.methods.options import lwf_options

MAIN = Phase("main", View.MERGED, 1, Optimiser("sgd", 0.1), Schedule("constant"), PARTS)
FIRST = Phase("first", View.MERGED, 1, Optimiser("sgd", 0.1), Schedule("constant"), PARTS)
NOTHING: Any = None
"""LwF looks at no data between phases."""


def task(index: int, *classes: int) -> Task:
    return Task(index, classes, tuple(map(str, classes)), torch.empty(0), torch.empty(0))


TASKS = (task(0, 0, 1), task(1, 2), task(2, 3, 4))
IMAGES = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
BATCH = Batch(IMAGES, torch.tensor([3, 4]), torch.eye(5)[[3, 4]])


def learner(**changed: Any) -> LwF:
    """LwF with two tasks behind it, and another network than its teacher."""
    with torch_seeded(Key(0)):
        method = LwF(EmbeddingNetwork(CifarResNet(depth=8, channels=1)), FIRST, MAIN, lwf_options(**changed))
    for each in TASKS:
        method.grow(each, Key(each.index), NOTHING)
    method.network.eval()
    with torch.no_grad():
        method.network.classifier.weight += torch.linspace(0, 0.1, 5)[:, None]
    return method


def softmax(scores: list[float], temperature: float = 1.0) -> list[float]:
    powers = [math.exp(score / temperature) for score in scores]
    return [power / sum(powers) for power in powers]


def cross_entropy_of(teacher: list[float], student: list[float]) -> float:
    return -sum(t * math.log(s) for t, s in zip(softmax(teacher, 2.0), softmax(student, 2.0), strict=True))


def terms(method: LwF) -> tuple[dict[str, float], list[list[float]], list[list[float]]]:
    """Its loss by term, its scores, and its teacher's."""
    with torch.no_grad():
        outputs = method.outputs(MAIN, IMAGES, None)
        found = method.losses(TASKS[2], MAIN, BATCH, outputs)
        assert method.teacher is not None
        remembered = method.teacher.logits(method.teacher(IMAGES))
    return {name: term.item() for name, term in found.items()}, outputs.logits.tolist(), remembered.tolist()


def test_without_a_memory_only_new_classes_compete() -> None:
    found, scores, remembered = terms(learner())
    expected = [-math.log(softmax(row[3:])[index]) for index, row in enumerate(scores)]
    assert found["classification"] == pytest.approx(sum(expected) / 2, rel=1e-5)
    kept = [cross_entropy_of(theirs, ours[:3]) for theirs, ours in zip(remembered, scores, strict=True)]
    assert found["distillation"] == pytest.approx(3 * sum(kept) / 2, rel=1e-5)


def test_all_classes_compete_where_they_shall() -> None:
    found, scores, _ = terms(learner(all_classes_compete=True))
    expected = [-math.log(softmax(row)[3 + index]) for index, row in enumerate(scores)]
    assert found["classification"] == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_the_paper_has_a_softmax_for_each_old_task() -> None:
    found, scores, remembered = terms(learner(per_task=True, weight=1.0))
    kept = [
        cross_entropy_of(theirs[:2], ours[:2]) + cross_entropy_of(theirs[2:], ours[2:3])
        for theirs, ours in zip(remembered, scores, strict=True)
    ]
    assert found["distillation"] == pytest.approx(sum(kept) / 2, rel=1e-5)


def test_the_first_task_has_a_schedule_of_its_own() -> None:
    method = learner()
    assert [[item.phase.name for item in method.plan(each) if isinstance(item, Fit)] for each in TASKS] == [
        ["first"], ["main"], ["main"]
    ]  # fmt: skip
    assert not any(isinstance(item, Herd) for each in TASKS for item in method.plan(each))


def build(*overrides: str) -> LwF:
    config = compose_one_of_many(["run_dir=unused", "method=lwf", "model=resnet8", *overrides])[0]
    return build_method(config, build_scenario(config), Key(0))  # type: ignore[return-value]


def test_published_schedules() -> None:
    """PyCIL's: 200 epochs, then 250, divided by ten at whole epochs."""
    method = build("epochs_scale=1")
    first, main = (next(item.phase for item in method.plan(each) if isinstance(item, Fit)) for each in TASKS[:2])
    assert (first.epochs, [round(share * 200) for share in first.schedule.milestones]) == (200, [60, 120, 160])
    assert (main.epochs, [round(share * 250) for share in main.schedule.milestones]) == (250, [60, 120, 180, 220])
    assert (first.optimiser.weight_decay, main.optimiser.weight_decay) == (5e-4, 2e-4)


def test_without_a_first_phase_all_tasks_are_alike() -> None:
    method = build("method.first=null")
    assert next(item for item in method.plan(TASKS[0]) if isinstance(item, Fit)).phase.name == "main"


def test_frozen_rows_are_a_part_of_their_own() -> None:
    method = build("method.old_rows=frozen")
    for each in TASKS[:2]:
        method.grow(each, Key(0), NOTHING)
    phase = next(item.phase for item in method.plan(TASKS[1]) if isinstance(item, Fit))
    assert phase.trains == ("backbone", "new_classes")
    parts = method.network.parts()
    assert [parameter.shape for parameter in parts["old_classes"]] == [(2, 64), (2,)]
    assert [parameter.shape for parameter in parts["new_classes"]] == [(1, 64), (1,)]


def test_a_memory_makes_all_classes_compete() -> None:
    method = build("method.rehearsal=true", "memory=total", "memory.size=20")
    assert any(isinstance(item, Herd) for item in method.plan(TASKS[0]))
    with pytest.raises(UserError, match=r"type method\.classify=all, or memory=none"):
        build("method.rehearsal=true", "memory=total", "memory.size=20", "method.classify=new")


def test_a_class_that_comes_alone_would_not_be_learnt() -> None:
    with pytest.raises(UserError, match="task 2 brings a single one, of which nothing would be learnt"):
        build("data.increment=[9,1]")
    build("data.increment=[9,1]", "method.classify=all")
