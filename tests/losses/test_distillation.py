"""Distillation losses against loops over single scores."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.config.yaml_files import load_option
from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.losses.distillation import (
    divergence_from,
    soft_cross_entropy,
    softmax_distillation,
    task_soft_cross_entropy,
)

Loss = Callable[[Tensor, Tensor, float], Tensor]
LOSSES = [softmax_distillation, soft_cross_entropy]
TEMPERATURES = [0.5, 1.0, 2.0, 5.0]


def scores(seed: int, images: int = 4, classes: int = 7) -> Tensor:
    return 2 * rng.normal(Key(seed), torch.arange(images)[:, None], torch.arange(classes))


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(score / temperature) for score in row]
    return [power / sum(powers) for power in powers]


def divergence_loop(student: list[list[float]], teacher: list[list[float]], temperature: float) -> float:
    """T^2 KL(teacher || student), divided by images times classes."""
    total = 0.0
    for mine, old in zip(student, teacher, strict=True):
        p, q = softmax(mine, temperature), softmax(old, temperature)
        total += sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
    return temperature**2 * total / (len(student) * len(student[0]))


def cross_entropy_loop(student: list[list[float]], teacher: list[list[float]], temperature: float) -> float:
    """-sum q log p, divided by images."""
    total = 0.0
    for mine, old in zip(student, teacher, strict=True):
        p, q = softmax(mine, temperature), softmax(old, temperature)
        total -= sum(b * math.log(a) for a, b in zip(p, q, strict=True))
    return total / len(student)


@pytest.mark.parametrize(
    ("loss", "loop"), [(softmax_distillation, divergence_loop), (soft_cross_entropy, cross_entropy_loop)]
)
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_losses_equal_loops(
    loss: Loss, loop: Callable[[list[list[float]], list[list[float]], float], float], temperature: float
) -> None:
    student, teacher = scores(0), scores(1)
    expected = loop(student.tolist(), teacher.tolist(), temperature)
    assert loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-5)


def test_published_reduction_is_the_mean_over_elements() -> None:
    """The usual "batchmean" is C_old times larger."""
    student, teacher = scores(0), scores(1)
    log_p, q = student.log_softmax(dim=-1), teacher.softmax(dim=-1)
    usual = F.kl_div(log_p, q, reduction="batchmean")
    ours = softmax_distillation(student, teacher, 1.0)
    assert ours.item() == pytest.approx(usual.item() / 7, rel=1e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_gradients_towards_the_teacher(temperature: float) -> None:
    student, teacher = scores(0).requires_grad_(), scores(1)
    towards = (student / temperature).softmax(dim=-1) - (teacher / temperature).softmax(dim=-1)
    (gradient,) = torch.autograd.grad(softmax_distillation(student, teacher, temperature), student)
    torch.testing.assert_close(gradient, temperature * towards / 28, atol=1e-6, rtol=1e-4)
    (gradient,) = torch.autograd.grad(soft_cross_entropy(student, teacher, temperature), student)
    torch.testing.assert_close(gradient, towards / temperature / 4, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_same_answers_leave_the_student_alone(loss: Loss) -> None:
    teacher = scores(1)
    student = (teacher + 3.0).requires_grad_()  # a shift of all scores is the same answer
    (gradient,) = torch.autograd.grad(loss(student, teacher, 2.0), student)
    torch.testing.assert_close(gradient, torch.zeros(4, 7), atol=1e-6, rtol=0)
    assert softmax_distillation(student, teacher, 1.0).item() == pytest.approx(0.0, abs=1e-6)


def test_temperatures_of_the_methods_are_those_of_the_papers() -> None:
    assert load_option("method", "dytox")["temperature"] == 1.0
    assert load_option("method", "wa")["temperature"] == 2.0


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_scores_are_cast_up(loss: Loss, dtype: torch.dtype) -> None:
    student, teacher = scores(0).to(dtype).requires_grad_(), scores(1).to(dtype)
    value = loss(student, teacher, 2.0)
    assert value.dtype == torch.float32
    assert value.item() == loss(student.detach().float(), teacher.float(), 2.0).item()
    assert torch.autograd.grad(value, student)[0].dtype == dtype


@pytest.mark.parametrize(("loss", "expected"), [(softmax_distillation, 100.0), (soft_cross_entropy, 300.0)])
def test_a_certain_teacher_is_no_infinity(loss: Loss, expected: float) -> None:
    student = torch.tensor([[0.0, 300.0, -300.0]], requires_grad=True)
    value = loss(student, torch.tensor([[400.0, -400.0, 0.0]]), 1.0)
    assert value.item() == pytest.approx(expected)
    assert torch.autograd.grad(value, student)[0].isfinite().all()


def test_one_softmax_for_each_task_is_their_sum() -> None:
    student, teacher = scores(0), scores(1)
    parts = [slice(0, 3), slice(3, 4), slice(4, 7)]
    expected = sum(soft_cross_entropy(student[:, part], teacher[:, part], 2.0).item() for part in parts)
    assert task_soft_cross_entropy(student, teacher, (3, 1, 3), 2.0).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
def test_double_precision_stays(loss: Loss) -> None:
    assert loss(scores(0).double(), scores(1).double(), 2.0).dtype == torch.float64


def test_divergence_is_the_cross_entropy_less_the_targets_own() -> None:
    student, targets = (rng.normal(Key(key), torch.arange(15)).view(3, 5).double() for key in (1, 2))
    own = soft_cross_entropy(targets, targets, 2.0)
    expected = soft_cross_entropy(student, targets, 2.0) - own
    torch.testing.assert_close(divergence_from(student, targets, 2.0), expected)
    assert divergence_from(targets, targets, 2.0).item() == pytest.approx(0, abs=1e-12)


def test_rectified_summands_are_more_than_a_divergence() -> None:
    student = torch.tensor([[0.0, math.log(3.0)]], dtype=torch.float64)  # shares 1/4 and 3/4; the targets' are 1/2
    targets = torch.zeros(1, 2, dtype=torch.float64)
    low, high = 0.5 * math.log(2.0), 0.5 * math.log(2 / 3)
    assert divergence_from(student, targets, 1.0).item() == pytest.approx(low + high)
    assert divergence_from(student, targets, 1.0, rectified=True).item() == pytest.approx(low)
