from __future__ import annotations

import io
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

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
    Schedule,
    Task,
    View,
)
from cl_lightning.methods.der import DER, MAIN_PARTS, RESET_CLASSIFIER, SECOND_PARTS, DEROptions
from cl_lightning.models.backbone import Backbone
from cl_lightning.models.extractor_network import ExtractorNetwork
from cl_lightning.models.resnet import CifarResNet
from tests.methods.options import der_options

SGD, CONSTANT = Optimiser("sgd", 0.1), Schedule("constant")
MAIN = Phase("main", View.MERGED, 1, SGD, CONSTANT, MAIN_PARTS)
SECOND = Phase("classifier", View.BALANCED, 1, SGD, CONSTANT, SECOND_PARTS)
IMAGES = rng.normal(Key(5), torch.arange(8 * 64)).view(8, 1, 8, 8)
NOTHING: Any = None  # DER looks at no data between phases


def backbone() -> Backbone:
    return CifarResNet(depth=8, channels=1)


def task(index: int, *sizes: int) -> Task:
    first = sum(sizes[:index])
    classes = tuple(range(first, first + sizes[index]))
    return Task(index, classes, tuple(map(str, classes)), torch.empty(0), torch.empty(0))


def method(*sizes: int, options: DEROptions | None = None) -> DER:
    der = DER(ExtractorNetwork(backbone), MAIN, SECOND, options or der_options())
    for index in range(len(sizes)):
        der.grow(task(index, *sizes), Key(index), NOTHING)
    return der


def batch(labels: list[int], num_classes: int) -> Batch:
    targets = torch.nn.functional.one_hot(torch.tensor(labels), num_classes).float()
    return Batch(IMAGES[: len(labels)], torch.tensor(labels), targets)


def freeze(der: DER, phase: Phase) -> list[nn.Parameter]:
    """What a learner does before a phase; returns what is trained."""
    for name, part in der.network.parts().items():
        for parameter in part:
            parameter.requires_grad_(name in phase.trains)
    return [p for p in der.network.parameters() if p.requires_grad]


def train(der: DER, current: Task, phase: Phase, data: Batch, steps: int) -> list[float]:
    optimiser = torch.optim.SGD(freeze(der, phase), lr=0.1, momentum=0.9)
    history = []
    for _ in range(steps):
        der.train_mode(phase)
        loss = sum(der.losses(current, phase, data, der.outputs(phase, data.images, None)).values())
        assert isinstance(loss, Tensor)
        history.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return history


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def unchanged(module: nn.Module, state: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_plan_balances_before_it_herds() -> None:
    second = [Act("reset_classifier"), Fit(SECOND)]
    assert method().plan(task(0, 2)) == [Grow(), Fit(MAIN), Herd(), Evaluate()]
    assert method(2).plan(task(1, 2, 2)) == [Grow(), Fit(MAIN), *second, Herd(), Evaluate()]
    without = method(2, options=der_options(rehearsal=False))
    assert without.plan(task(1, 2, 2)) == [Grow(), Fit(MAIN), Evaluate()]


def cross_entropy(scores: list[float], label: int) -> float:
    return math.log(sum(math.exp(s) for s in scores)) - scores[label]


def test_main_losses_against_a_loop() -> None:
    der = method(2, 3, options=der_options(auxiliary_weight=0.5))
    der.train_mode(MAIN)
    labels = [2, 0, 4, 1, 3]
    data = batch(labels, 5)
    outputs = der.outputs(MAIN, data.images, None)
    assert outputs.auxiliary is not None
    assert outputs.auxiliary.shape == (5, 4)
    classification = sum(cross_entropy(s, c) for s, c in zip(outputs.logits.tolist(), labels, strict=True)) / 5
    grouped = [max(c - 1, 0) for c in labels]  # 0 and 1 are old: output 0
    auxiliary = sum(cross_entropy(s, c) for s, c in zip(outputs.auxiliary.tolist(), grouped, strict=True)) / 5
    terms = {k: v.item() for k, v in der.losses(task(1, 2, 3), MAIN, data, outputs).items()}
    assert terms == pytest.approx({"classification": classification, "auxiliary": 0.5 * auxiliary}, rel=1e-5)


def test_first_task_has_no_auxiliary_loss() -> None:
    der = method(3)
    data = batch([2, 0, 1], 3)
    outputs = der.outputs(MAIN, data.images, None)
    assert outputs.auxiliary is None
    assert set(der.losses(task(0, 3), MAIN, data, outputs)) == {"classification"}


def test_second_stage_divides_scores_by_the_temperature() -> None:
    der = method(2, 2)
    labels = [2, 0, 3, 1]
    data = batch(labels, 4)
    outputs = der.outputs(SECOND, data.images, None)
    assert outputs.auxiliary is None
    scores = [[s / 5 for s in row] for row in outputs.logits.tolist()]
    expected = sum(cross_entropy(s, c) for s, c in zip(scores, labels, strict=True)) / 4
    terms = {k: v.item() for k, v in der.losses(task(1, 2, 2), SECOND, data, outputs).items()}
    assert terms == pytest.approx({"classification": expected}, rel=1e-5)


def test_main_phase_leaves_old_extractors_and_their_statistics_alone() -> None:
    der = method(2, 2, 2)
    old = [snapshot(extractor) for extractor in der.network.extractors[:-1]]
    newest = snapshot(der.network.extractors[-1])
    history = train(der, task(2, 2, 2, 2), MAIN, batch([4, 4, 4, 5, 5, 5, 0, 2], 6), steps=15)
    assert history[-1] < 0.3 * history[0]
    for extractor, state in zip(der.network.extractors[:-1], old, strict=True):
        assert unchanged(extractor, state)
    after = snapshot(der.network.extractors[-1])
    assert not any(torch.equal(after[name], newest[name]) for name in newest if not name.endswith("tracked"))


def test_second_stage_moves_the_classifier_alone() -> None:
    der = method(2, 2)
    auxiliary = der.network.auxiliary_classifier
    assert auxiliary is not None
    extractors, auxiliary_state = snapshot(der.network.extractors), snapshot(auxiliary)
    der.act(RESET_CLASSIFIER, task(1, 2, 2), NOTHING)
    assert der.network.classifier is not None
    start = snapshot(der.network.classifier)
    history = train(der, task(1, 2, 2), SECOND, batch([0, 0, 1, 1, 2, 2, 3, 3], 4), steps=15)
    assert history[-1] < history[0]
    assert unchanged(der.network.extractors, extractors)
    assert unchanged(auxiliary, auxiliary_state)
    assert not unchanged(der.network.classifier, start)


def test_modes() -> None:
    der = method(2, 2)
    der.network.eval()
    der.train_mode(MAIN)
    assert [e.training for e in der.network.extractors] == [False, True]
    assert not any(module.training for module in der.network.extractors[0].modules())
    assert der.network.classifier is not None
    assert der.network.classifier.training
    der.train_mode(SECOND)
    assert [e.training for e in der.network.extractors] == [False, False]
    der.train_mode(MAIN)
    assert [e.training for e in der.network.extractors] == [False, True]


def test_reset_survives_an_interruption_and_depends_on_the_growth_key() -> None:
    der, other = method(2, 2), method(2, 2)
    buffer = io.BytesIO()
    torch.save(der.extra_state(), buffer)
    buffer.seek(0)
    restored = method(2)
    restored.network.grow(2, Key(1))
    restored.load_extra_state(torch.load(buffer, weights_only=True))
    for each in (der, restored):
        each.act(RESET_CLASSIFIER, task(1, 2, 2), NOTHING)
    assert der.network.classifier is not None
    assert restored.network.classifier is not None
    assert other.network.classifier is not None
    assert torch.equal(der.network.classifier.weight, restored.network.classifier.weight)
    assert (der.network.classifier.weight != other.network.classifier.weight).all()
    restored.load_extra_state(method().extra_state())
    for state in ({}, {"reset_key": 1.5}, {**der.extra_state(), "more": 1}):
        with pytest.raises(ValueError, match=r"^[^\n]*method=der[^\n]*$"):
            restored.load_extra_state(state)


def test_herding_sees_the_features_of_all_extractors() -> None:
    der = method(2, 2)
    der.network.eval()
    features = der.embed(IMAGES)
    assert features.shape == (8, 128)
    torch.testing.assert_close(features[:, 64:], der.network.extractors[1](IMAGES)[0])
    assert list(der.predict(IMAGES)) == ["linear"]
    assert der.predict(IMAGES)["linear"].shape == (8, 4)


def test_unknown_actions_are_refused() -> None:
    with pytest.raises(NotImplementedError, match="align"):
        method(2).act("align", task(0, 2), NOTHING)
