"""End-to-End: its plan, both phases by hand, the classifier's first rows, its memory, and the recorded numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.errors import UserError
from cl_lightning.core.gradient_noise import GradientNoise
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
from cl_lightning.factory.data import build_scenario
from cl_lightning.factory.methods import build_method
from cl_lightning.methods.e2e import E2E, PARTS, TEMPORARY_TEACHER, E2EPhases
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.resnet import CifarResNet
from cl_lightning.optim.schedule import learning_rate
from scripts.check_reference import main as check_reference
from tests.config.made import filled
from tests.golden import GOLDEN

FIRST = Phase("first", View.MERGED, 1, Optimiser("sgd", 0.1), Schedule("constant"), PARTS)
MAIN, BALANCED = replace(FIRST, name="main"), replace(FIRST, name="balanced", view=View.MEMORY)
PHASES = E2EPhases(FIRST, MAIN, BALANCED)
SIZES = (2, 3, 2)
IMAGES = rng.normal(Key(5), torch.arange(6 * 64)).view(6, 1, 8, 8)
LABELS = [0, 5, 3, 6, 1, 2]
NOTHING: Any = None
"""End-to-End looks at no data between phases."""


def task(index: int) -> Task:
    first = sum(SIZES[:index])
    classes = tuple(range(first, first + SIZES[index]))
    return Task(index, classes, tuple(map(str, classes)), torch.empty(0), torch.empty(0))


def method(tasks: int, phases: E2EPhases = PHASES) -> E2E:
    """In evaluation mode, its weights a little away from its teacher's."""
    with rng.torch_seeded(Key(0)):
        network = EmbeddingNetwork(CifarResNet(depth=8, channels=1), bias=True)
    made = E2E(network, phases, temperature=2.0)
    for index in range(tasks):
        made.grow(task(index), Key(index), NOTHING)
        move(made, index)
    made.network.eval()
    return made


def move(made: E2E, seed: int) -> None:
    """Change all weights, as training would."""
    with torch.no_grad():
        for weight in made.network.parameters():
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed)))


def softmax(scores: list[float], temperature: float) -> list[float]:
    powers = [math.exp(s / temperature) for s in scores]
    return [p / sum(powers) for p in powers]


def by_hand(ours: Tensor, theirs: Tensor | None, sizes: list[int]) -> dict[str, float]:
    """Cross-entropy of all classes; of each task of ``sizes`` its own softmax's with the teacher's, summed."""
    classification = distillation = 0.0
    for row, label in zip(ours.tolist(), LABELS, strict=True):
        classification -= math.log(softmax(row, 1.0)[label]) / len(LABELS)
    if theirs is None:
        return {"classification": classification}
    for row, remembered in zip(ours.tolist(), theirs.tolist(), strict=True):
        start = 0
        for size in sizes:
            student = softmax(row[start : start + size], 2.0)
            teacher = softmax(remembered[start : start + size], 2.0)
            distillation -= sum(q * math.log(p) for q, p in zip(teacher, student, strict=True)) / len(LABELS)
            start += size
    return {"classification": classification, "distillation": distillation}


def losses(made: E2E, current: Task, phase: Phase) -> dict[str, float]:
    labels = torch.tensor(LABELS)
    batch = Batch(IMAGES, labels, torch.nn.functional.one_hot(labels, current.num_seen).float())
    with torch.no_grad():
        outputs = made.outputs(phase, IMAGES, None)
        return {name: term.item() for name, term in made.losses(current, phase, batch, outputs).items()}


def scores(made: E2E) -> Tensor:
    with torch.no_grad():
        return made.predict(IMAGES)["linear"]


def test_plan() -> None:
    made = method(0)
    assert made.plan(task(0)) == [Grow(), Fit(FIRST), Herd(), Evaluate()]
    balanced = [Herd(as_old=True), Act(TEMPORARY_TEACHER), Fit(BALANCED), Herd(again=True)]
    assert made.plan(task(1)) == [Grow(), Fit(MAIN), *balanced, Evaluate()]
    without = method(0, replace(PHASES, first=None))
    assert without.plan(task(0)) == [Grow(), Fit(MAIN), Herd(), Evaluate()]


def test_the_main_phase_by_hand_distils_each_old_task() -> None:
    made = method(2)
    remembered = scores(made)
    made.grow(task(2), Key(2), NOTHING)
    move(made, 9)
    expected = by_hand(scores(made), remembered, [2, 3])
    assert losses(made, task(2), MAIN) == pytest.approx(expected, rel=1e-5)
    assert (scores(made)[:, :5] - remembered).abs().max() > 1e-2


def test_the_balanced_phase_by_hand_distils_the_newest_task_too() -> None:
    made = method(3)
    remembered = scores(made)
    made.act(TEMPORARY_TEACHER, task(2), NOTHING)
    assert made.teacher is not None
    assert made.teacher is not made.network
    move(made, 9)
    torch.testing.assert_close(made.teacher.logits(made.teacher(IMAGES)), remembered)
    expected = by_hand(scores(made), remembered, [2, 3, 2])
    assert losses(made, task(2), BALANCED) == pytest.approx(expected, rel=1e-5)


def test_distillation_is_the_sum_over_tasks_without_the_square_of_the_temperature() -> None:
    """A task more is a term more, whatever its size: no mean over tasks, no weight by classes."""
    made = method(3)
    made.act(TEMPORARY_TEACHER, task(2), NOTHING)
    remembered = scores(made)
    entropies, start = 0.0, 0
    for size in SIZES:
        shares = (remembered[:, start : start + size] / 2).softmax(1)
        entropies -= (shares * shares.log()).sum(1).mean().item()
        start += size
    assert losses(made, task(2), BALANCED)["distillation"] == pytest.approx(entropies, rel=1e-5)


def test_in_the_first_task_there_is_nothing_to_distil() -> None:
    made = method(0)
    made.grow(replace(task(0), classes=tuple(range(7))), Key(0), NOTHING)
    made.network.eval()
    assert losses(made, replace(task(0), classes=tuple(range(7))), FIRST) == pytest.approx(
        by_hand(scores(made), None, []), rel=1e-5
    )


def test_new_rows_are_normal_and_old_ones_stay() -> None:
    made = method(1)
    before = {name: value.clone() for name, value in made.network.classifier.named_parameters()}
    many = Task(1, tuple(range(2, 202)), tuple(map(str, range(200))), torch.empty(0), torch.empty(0))
    made.grow(many, Key(3), NOTHING)
    weight, bias = made.network.classifier.parameters()
    old_weight, old_bias = before.values()
    assert torch.equal(weight[:2], old_weight)
    assert torch.equal(bias[:2], old_bias)
    assert not bias[2:].any()
    drawn = weight[2:].detach().flatten().numpy()
    assert stats.kstest(drawn, "norm", (0, math.sqrt(2 / weight.shape[1]))).pvalue > 1e-3


def build(*overrides: str) -> E2E:
    config = filled("method=e2e", "model=resnet8", *overrides)
    made = build_method(config, build_scenario(config), Key(0))
    assert isinstance(made, E2E)
    return made


def test_the_authors_schedule() -> None:
    made = build("epochs_scale=1", "balanced_epochs_scale=1")
    (first,) = (item.phase for item in made.plan(task(0)) if isinstance(item, Fit))
    main, balanced = (item.phase for item in made.plan(task(1)) if isinstance(item, Fit))
    assert (first.epochs, main.epochs, balanced.epochs) == (100, 40, 30)
    assert (first.view, main.view, balanced.view) == (View.MERGED, View.MERGED, View.MEMORY)
    for phase, rates in ((main, (0.1, 0.01, 0.001, 0.0001)), (balanced, (0.01, 0.001, 0.0001))):
        used = [learning_rate(phase.schedule, phase.optimiser.lr, epoch, phase.epochs) for epoch in range(phase.epochs)]
        assert used == pytest.approx([rate for rate in rates for _ in range(10)])
        assert (phase.sampling.copies, phase.sampling.fixed) == (12, True)
        optimiser = phase.optimiser
        assert (optimiser.weight_decay, optimiser.decay_by_norm, optimiser.decay_vectors) == (1e-4, True, False)
    assert main.gradient_noise == GradientNoise(0.3, 0.55, first_epoch=1)
    assert balanced.gradient_noise == GradientNoise(0.3, 0.55, first_epoch=41)
    assert (first.sampling.copies, first.gradient_noise, first.optimiser.decay_by_norm) == (1, None, False)


def test_every_switch_of_parity() -> None:
    made = build("method.variants=fresh", "method.decay=plain", "method.gradient_noise=0", "method.copies=2")
    for item in made.plan(task(1)):
        if isinstance(item, Fit):
            assert (item.phase.sampling.copies, item.phase.sampling.fixed) == (2, False)
            assert (item.phase.gradient_noise, item.phase.optimiser.decay_by_norm) == (None, False)


def test_no_memory_is_refused() -> None:
    with pytest.raises(UserError, match=r"memory=none: method=e2e learns from balanced data, type memory=total"):
        build_method(filled("method=e2e", "memory=none"), NOTHING, Key(0))
    with pytest.raises(UserError, match=r"method.rehearsal=false: method=e2e learns from balanced data"):
        build_method(filled("method=e2e", "method.rehearsal=false"), NOTHING, Key(0))


def test_numbers_of_the_authors_formulas(capsys: pytest.CaptureFixture[str]) -> None:
    """FACIL's and inclearn's losses, and the rule of noise that the paper cites, are not its own."""
    assert check_reference([str(GOLDEN / "e2e.npz")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "PASS: 15 equal, 12 not checked"
