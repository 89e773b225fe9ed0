"""BiC: its plan, both phases by hand, both forms, and the numbers of the published functions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Batch, Evaluate, Fit, Grow, Herd, HoldOut, Optimiser, Phase, Schedule, Task, View
from cl_lightning.factory.methods import build_method
from cl_lightning.methods.bic import CORRECTION_PARTS, MAIN_PARTS, BiC, BiCOptions
from cl_lightning.models.bias_correction import BiasCorrectedLinear
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.resnet import CifarResNet
from scripts.check_reference import main as check_reference
from tests.config.made import filled
from tests.golden import GOLDEN
from tests.methods.options import bic_options

MAIN = Phase("main", View.MERGED, 1, Optimiser("sgd", 0.1, 2e-4), Schedule("constant"), MAIN_PARTS)
CORRECTION = Phase(
    "bias_correction", View.HELD_OUT, 1, Optimiser("sgd", 0.1), Schedule("constant"), CORRECTION_PARTS, augmented=False
)
IMAGES = rng.normal(Key(5), torch.arange(8 * 64)).view(8, 1, 8, 8)
NOTHING: Any = None  # BiC looks at no data between phases
HERD = Herd(distinct=True, normalised=False, old_too=True)


def task(index: int, *sizes: int) -> Task:
    first = sum(sizes[:index])
    classes = tuple(range(first, first + sizes[index]))
    return Task(index, classes, tuple(map(str, classes)), torch.empty(0), torch.empty(0))


def method(*sizes: int, every: bool = False, options: BiCOptions | None = None) -> BiC:
    with rng.torch_seeded(Key(0)):
        backbone = CifarResNet(depth=8, channels=1)
        network = EmbeddingNetwork(backbone, head=BiasCorrectedLinear(backbone.dim, every=every))
    bic = BiC(network, MAIN, CORRECTION, options or bic_options())
    for index in range(len(sizes)):
        bic.grow(task(index, *sizes), Key(0), NOTHING)
        bic.network.classifier.newest.data.copy_(torch.tensor([1.0 - 0.1 * index, -0.2 * index]))
    bic.network.eval()
    return bic


def batch(labels: list[int], num_classes: int) -> Batch:
    targets = torch.nn.functional.one_hot(torch.tensor(labels), num_classes).float()
    return Batch(IMAGES[: len(labels)], torch.tensor(labels), targets)


def softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(s) for s in scores]
    return [p / sum(powers) for p in powers]


def terms(bic: BiC, phase: Phase, current: Task, given: Batch) -> dict[str, float]:
    outputs = bic.outputs(phase, given.images, None)
    return {name: term.item() for name, term in bic.losses(current, phase, given, outputs).items()}


def test_plan() -> None:
    bic = method()
    assert bic.plan(task(0, 2)) == [HoldOut(0.1), Grow(), Fit(MAIN), HERD, Evaluate()]
    assert bic.plan(task(1, 2, 2)) == [HoldOut(0.1), Grow(), Fit(MAIN), Fit(CORRECTION), HERD, Evaluate()]


def test_weight_decay_by_task() -> None:
    """T / t times its value, and never less than it, also for a task that was not foreseen."""
    bic = method(options=bic_options(decay_over=3))
    plans = [bic.plan(task(index, 2, 2, 2, 2)) for index in range(4)]
    decays = [next(item.phase for item in plan if isinstance(item, Fit)).optimiser.weight_decay for plan in plans]
    assert decays == pytest.approx([6e-4, 3e-4, 2e-4, 2e-4])
    assert plans[1][3] == Fit(CORRECTION), "the correction has its own"


@pytest.mark.parametrize("every", [False, True])
def test_the_main_phase_by_hand(every: bool) -> None:
    """(old / seen) KD at temperature 2 from the teacher's corrected scores, and the rest CE."""
    sizes, labels = (2, 2, 1), [0, 3, 4]
    bic = method(2, 2, every=every)
    corrected = bic.predict(IMAGES[:3])["linear"].tolist()
    bic.grow(task(2, *sizes), Key(0), NOTHING)
    given = batch(labels, 5)
    scores = bic.network.logits(bic.network(given.images)).tolist()
    old, seen = 4, 5
    distilled = [
        -sum(
            p * math.log(q) for p, q in zip(softmax([s / 2 for s in t]), softmax([s / 2 for s in z[:old]]), strict=True)
        )
        for t, z in zip(corrected, scores, strict=True)
    ]
    classified = [-math.log(softmax(z)[label]) for z, label in zip(scores, labels, strict=True)]
    found = terms(bic, MAIN, task(2, *sizes), given)
    assert found["distillation"] == pytest.approx(old / seen * sum(distilled) / 3, rel=1e-4)
    assert found["classification"] == pytest.approx(1 / seen * sum(classified) / 3, rel=1e-4)


def test_who_is_corrected() -> None:
    """The newest task alone, with the teacher as it was; or each task for ever."""
    for every in (False, True):
        bic = method(2, 2, every=every)
        before = bic.predict(IMAGES)["linear"]
        raw = bic.network.classifier.linear(bic.network(IMAGES).embeddings[:, 0])
        torch.testing.assert_close(before[:, :2], raw[:, :2])
        torch.testing.assert_close(before[:, 2:], 0.9 * raw[:, 2:] - 0.2)
        bic.grow(task(2, 2, 2, 1), Key(0), NOTHING)
        after = bic.predict(IMAGES)["linear"]
        torch.testing.assert_close(after[:, 2:4], before[:, 2:] if every else raw[:, 2:])
        assert bic.teacher is not None
        assert torch.equal(bic.teacher.logits(bic.teacher(IMAGES)), before), "the teacher keeps its correction"


def test_the_correction_by_hand() -> None:
    bic, current = method(2, 2), task(1, 2, 2)
    given = batch([0, 2, 3], 4)
    scores = bic.predict(given.images)["linear"].tolist()
    found = terms(bic, CORRECTION, current, given)
    expected = sum(-math.log(softmax(z)[label]) for z, label in zip(scores, [0, 2, 3], strict=True)) / 3
    assert found == pytest.approx({"classification": expected, "offset": 0.1 * 0.2**2 / 2}, rel=1e-4)


def test_the_correction_trains_two_numbers_and_moves_no_statistic() -> None:
    bic = method(2, 2)
    before = {name: value.clone() for name, value in bic.network.state_dict().items()}
    for parameter in bic.network.parameters():
        parameter.requires_grad_(False)
    (pair,) = bic.network.parts()["correction"]
    pair.requires_grad_()
    bic.train_mode(CORRECTION)
    assert not any(module.training for module in bic.network.modules())
    given = batch([0, 2, 3], 4)
    outputs = bic.outputs(CORRECTION, given.images, None)
    sum(bic.losses(task(1, 2, 2), CORRECTION, given, outputs).values()).backward()  # type: ignore[union-attr]
    torch.optim.SGD([pair], lr=0.1).step()
    changed = {name for name, value in bic.network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"classifier.pairs.1"}
    bic.train_mode(MAIN)
    assert bic.network.training


def test_the_loss_of_an_image_does_not_depend_on_its_neighbours() -> None:
    """In evaluation mode; in training mode (the authors' code) batch norm mixes the images."""
    labels = [0, 2, 3, 1]

    def apart(bic: BiC) -> tuple[Tensor, Tensor]:
        bic.train_mode(CORRECTION)
        whole = bic.outputs(CORRECTION, IMAGES[:4], None).logits
        alone = torch.cat([bic.outputs(CORRECTION, IMAGES[k : k + 2], None).logits for k in (0, 2)])
        return whole, alone

    whole, alone = apart(method(2, 2))
    torch.testing.assert_close(whole, alone)
    given = batch(labels, 4)
    bic = method(2, 2)
    each = [
        terms(bic, CORRECTION, task(1, 2, 2), replace(given, images=given.images[k : k + 1],
              labels=given.labels[k : k + 1], targets=given.targets[k : k + 1]))["classification"]
        for k in range(4)
    ]  # fmt: skip
    assert terms(bic, CORRECTION, task(1, 2, 2), given)["classification"] == pytest.approx(sum(each) / 4, rel=1e-5)
    whole, alone = apart(method(2, 2, options=bic_options(moving_statistics=True)))
    assert not torch.allclose(whole, alone)


def test_the_curves_show_the_pair() -> None:
    scalars = method(2, 2).monitored_scalars()
    assert {name: value.item() for name, value in scalars.items()} == pytest.approx({"beta": 0.9, "gamma": -0.2})


def test_no_memory_is_refused() -> None:
    with pytest.raises(UserError, match=r"memory=none: method=bic .* type memory=total"):
        build_method(filled("method=bic", "memory=none"), NOTHING, Key(0))


def test_numbers_of_the_published_functions(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_reference([str(GOLDEN / "bic.npz")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "PASS: 29 equal, 1 not checked"
