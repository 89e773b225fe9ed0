from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Act,
    Batch,
    Evaluate,
    Fit,
    Grow,
    Herd,
    Optimiser,
    Phase,
    Progress,
    Schedule,
    Task,
    View,
)
from cl_lightning.methods.wa import ALIGN, MAIN_PARTS, WA, WAOptions
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.resnet import CifarResNet
from tests.methods.options import wa_options

MAIN = Phase("main", View.MERGED, 1, Optimiser("sgd", 0.1), Schedule("constant"), MAIN_PARTS)
IMAGES = rng.normal(Key(5), torch.arange(8 * 64)).view(8, 1, 8, 8)
NOTHING: Any = None  # WA looks at no data between phases


def task(index: int, *sizes: int) -> Task:
    first = sum(sizes[:index])
    classes = tuple(range(first, first + sizes[index]))
    return Task(index, classes, tuple(map(str, classes)), torch.empty(0), torch.empty(0))


def method(*sizes: int, options: WAOptions | None = None) -> WA:
    with rng.torch_seeded(Key(0)):
        network = EmbeddingNetwork(CifarResNet(depth=8, channels=1), bias=False)
    wa = WA(network, MAIN, options or wa_options())
    for index in range(len(sizes)):
        wa.grow(task(index, *sizes), Key(0), NOTHING)
    wa.network.eval()
    return wa


def batch(labels: list[int], num_classes: int) -> Batch:
    targets = torch.nn.functional.one_hot(torch.tensor(labels), num_classes).float()
    return Batch(IMAGES[: len(labels)], torch.tensor(labels), targets)


def test_plan() -> None:
    assert method().plan(task(0, 2)) == [Grow(), Fit(MAIN), Herd(), Evaluate()]
    assert method(2).plan(task(1, 2, 2)) == [Grow(), Fit(MAIN), Act("align"), Herd(), Evaluate()]
    without = method(2, options=wa_options(rehearsal=False))
    assert without.plan(task(1, 2, 2)) == [Grow(), Fit(MAIN), Act("align"), Evaluate()]


def test_growth_keeps_old_scores_and_a_frozen_teacher() -> None:
    wa = method(2)
    assert method(2).teacher is None
    before = wa.predict(IMAGES)["linear"]
    wa.grow(task(1, 2, 3), Key(0), NOTHING)
    torch.testing.assert_close(wa.predict(IMAGES)["linear"][:, :2], before)
    assert wa.teacher is not None
    wa.network.classifier.weight.data.zero_()
    assert torch.equal(wa.teacher.logits(wa.teacher(IMAGES)), before)
    assert not wa.teacher.training
    assert not any(p.requires_grad for p in wa.teacher.parameters())


def softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(s) for s in scores]
    return [p / sum(powers) for p in powers]


@pytest.mark.parametrize("temperature", [2.0, 1.0])
def test_losses_against_a_loop(temperature: float) -> None:
    wa = method(3, 2, options=wa_options(temperature=temperature))
    wa.network.classifier.weight.data.mul_(3.0)  # away from the teacher
    labels = [3, 0, 4, 1]
    data = batch(labels, 5)
    outputs = wa.outputs(MAIN, data.images, None)
    assert wa.teacher is not None
    old = wa.teacher.logits(wa.teacher(data.images)).tolist()
    cross, distilled = 0.0, 0.0
    for scores, teacher, label in zip(outputs.logits.tolist(), old, labels, strict=True):
        cross -= math.log(softmax(scores)[label]) / 4
        student = softmax([s / temperature for s in scores[:3]])
        target = softmax([s / temperature for s in teacher])
        distilled -= sum(q * math.log(p) for q, p in zip(target, student, strict=True)) / 4
    terms = {k: v.item() for k, v in wa.losses(task(1, 3, 2), MAIN, data, outputs).items()}
    assert terms == pytest.approx({"classification": 0.4 * cross, "distillation": 0.6 * distilled}, rel=1e-5)


def test_first_loss_is_cross_entropy_alone() -> None:
    wa = method(3)
    data = batch([2, 0, 1], 3)
    outputs = wa.outputs(MAIN, data.images, None)
    terms = wa.losses(task(0, 3), MAIN, data, outputs)
    expected = -sum(math.log(softmax(s)[c]) for s, c in zip(outputs.logits.tolist(), [2, 0, 1], strict=True)) / 3
    assert {k: v.item() for k, v in terms.items()} == pytest.approx({"classification": expected}, rel=1e-5)


def test_alignment_by_hand() -> None:
    wa = method(2, 2)
    weight = torch.zeros(4, 64)
    weight[0, :2] = torch.tensor([3.0, 4.0])  # length 5
    weight[1, 5] = 1.0  # mean of old lengths: 3
    weight[2, 7] = 8.0
    weight[3, 1:3] = torch.tensor([2.4, 3.2])  # length 4; mean of new lengths: 6
    wa.network.classifier.weight.data.copy_(weight)
    wa.act(ALIGN, task(1, 2, 2), NOTHING)
    expected = weight.clone()
    expected[2:] *= 0.5
    torch.testing.assert_close(wa.network.classifier.weight.data, expected)
    lengths = wa.network.classifier.weight.detach().norm(dim=1)
    assert lengths[:2].mean().item() == pytest.approx(lengths[2:].mean().item())


def test_alignment_scales_scores_of_new_classes_and_is_what_the_next_teacher_knows() -> None:
    wa = method(2, 2)
    wa.network.classifier.weight.data[2:] *= 4.0
    before = wa.predict(IMAGES)["linear"].detach()
    wa.act(ALIGN, task(1, 2, 2), NOTHING)
    after = wa.predict(IMAGES)["linear"].detach()
    assert torch.equal(after[:, :2], before[:, :2])
    ratio = after[:, 2:] / before[:, 2:]
    torch.testing.assert_close(ratio, ratio[0, 0].expand(8, 2))
    assert ratio[0, 0] < 0.5
    wa.grow(task(2, 2, 2, 2), Key(0), NOTHING)
    assert wa.teacher is not None
    assert torch.equal(wa.teacher.logits(wa.teacher(IMAGES)), after)


def test_alignment_survives_rows_clipped_to_nothing() -> None:
    wa = method(2, 2)
    wa.network.classifier.weight.data[2:] = 0.0
    wa.act(ALIGN, task(1, 2, 2), NOTHING)
    assert (wa.network.classifier.weight[2:] == 0).all()


@pytest.mark.parametrize("clip", [True, False])
def test_clipping(clip: bool) -> None:
    wa = method(2, options=wa_options(clip=clip))
    before = wa.network.classifier.weight.detach().clone()
    assert (before < 0).any()
    rest = [p.detach().clone() for p in wa.network.backbone.parameters()]
    wa.after_step(Progress(1, 10, 0, 1))
    assert torch.equal(wa.network.classifier.weight, before.clamp(min=0) if clip else before)
    assert all(torch.equal(a, b) for a, b in zip(wa.network.backbone.parameters(), rest, strict=True))


def test_a_biased_classifier_is_no_part_of_it() -> None:
    with pytest.raises(AssertionError):
        WA(EmbeddingNetwork(CifarResNet(depth=8)), MAIN, wa_options())


def test_unknown_actions_are_refused() -> None:
    with pytest.raises(NotImplementedError, match="class_means"):
        method(2).act("class_means", task(0, 2), NOTHING)


def test_it_learns_with_clipped_weights() -> None:
    wa = method(2)
    data = batch([0, 0, 0, 0, 1, 1, 1, 1], 2)
    history = []
    for index in range(2):
        if index == 1:
            wa.grow(task(1, 2, 2), Key(0), NOTHING)
            data = batch([2, 2, 2, 3, 3, 3, 0, 1], 4)
        optimiser = torch.optim.SGD(wa.network.parameters(), lr=0.1, momentum=0.9)
        for step in range(15):
            wa.train_mode(MAIN)
            loss = sum(wa.losses(task(index, 2, 2), MAIN, data, wa.outputs(MAIN, data.images, None)).values())
            assert isinstance(loss, Tensor)
            history.append(loss.item())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            wa.after_step(Progress(step + 1, 15, 0, 1))
            assert (wa.network.classifier.weight >= 0).all()
    assert history[14] < 0.5 * history[0]
    assert history[29] < 0.8 * history[15]
