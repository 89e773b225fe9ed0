"""Sharpness-aware steps against the equations, one number at a time."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.optim.sam import ascend, descend

SHAPES = [(3, 4), (5,), (), (1, 1, 2)]


def parameters(scale: float = 1.0) -> list[nn.Parameter]:
    made = []
    for index, shape in enumerate(SHAPES):
        positions = torch.arange(torch.Size(shape).numel())
        p = nn.Parameter(scale * rng.normal(Key(index), positions).view(shape))
        p.grad = rng.normal(Key(50 + index), positions).view(shape)
        made.append(p)
    return made


def climb(made: list[nn.Parameter], rho: float, adaptive: bool) -> list[list[float]]:
    """Where the equations lead: w + rho s^2 g / ||s g||, s = |w| or 1, the norm over everything."""
    pairs = [list(zip(p.flatten().tolist(), _grad(p).flatten().tolist(), strict=True)) for p in made]
    norm = math.sqrt(sum((g * (abs(w) if adaptive else 1)) ** 2 for pair in pairs for w, g in pair))
    return [[w + rho * (w * w if adaptive else 1) * g / norm for w, g in pair] for pair in pairs]


def _grad(p: nn.Parameter) -> Tensor:
    assert p.grad is not None
    return p.grad


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("rho", [0.05, 3.0])
def test_ascent_equals_the_equations(rho: float, adaptive: bool) -> None:
    made = parameters()
    expected = climb(made, rho, adaptive)
    ascend(made, rho, adaptive)
    for p, values in zip(made, expected, strict=True):
        assert p.flatten().tolist() == pytest.approx(values, rel=1e-5, abs=1e-6)


def test_the_step_has_the_length_that_was_asked_for() -> None:
    """||e|| = rho, and in the adaptive form ||e / |w||| = rho."""
    for adaptive in (True, False):
        made = parameters()
        moved = ascend(made, 0.1, adaptive)
        steps = [((p - o) / (o.abs() if adaptive else 1)).flatten() for p, o in moved]
        assert torch.cat(steps).norm().item() == pytest.approx(0.1, rel=1e-4)


def test_the_loss_rises_uphill() -> None:
    w = nn.Parameter(torch.tensor([3.0, -4.0]))
    (w**2).sum().backward()
    ascend([w], 1.0, adaptive=False)
    assert w.tolist() == pytest.approx([3.6, -4.8])


@given(exponent=st.integers(-12, 12), adaptive=st.booleans(), rho=st.floats(1e-3, 100))
def test_descent_comes_back_to_the_bit(exponent: int, adaptive: bool, rho: float) -> None:
    made = parameters(10.0**exponent)
    before = [p.detach().clone() for p in made]
    moved = ascend(made, rho, adaptive)
    descend(moved)
    assert all(torch.equal(p, b) for p, b in zip(made, before, strict=True))


def test_descent_keeps_the_gradient_of_the_second_pass() -> None:
    made = parameters()
    moved = ascend(made, 1.0, adaptive=True)
    for p in made:
        p.grad = torch.full_like(p, 7.0)
    descend(moved)
    assert all((_grad(p) == 7.0).all() for p in made)


def test_parameters_without_gradient_stay_and_do_not_count() -> None:
    made, without = parameters(), nn.Parameter(torch.tensor([1e6]))
    expected = climb(made, 1.0, adaptive=True)
    moved = ascend([made[0], without, *made[1:]], 1.0, adaptive=True)
    assert without.item() == 1e6
    assert without.grad is None
    assert [id(p) for p, _ in moved] == [id(p) for p in made]
    assert made[0].flatten().tolist() == pytest.approx(expected[0], rel=1e-5, abs=1e-6)


def test_the_caller_keeps_its_gradients() -> None:
    made = parameters()
    before = [_grad(p).clone() for p in made]
    for adaptive in (True, False):
        ascend(made, 1.0, adaptive)
        assert all(torch.equal(_grad(p), b) for p, b in zip(made, before, strict=True))


def test_nothing_to_climb() -> None:
    assert ascend([], 1.0, adaptive=True) == []
    assert ascend([nn.Parameter(torch.ones(2))], 1.0, adaptive=True) == []
    flat = nn.Parameter(torch.ones(2))
    flat.grad = torch.zeros(2)
    for adaptive in (True, False):
        ascend([flat], 1.0, adaptive)
        assert flat.tolist() == [1.0, 1.0], "a gradient of zero is no direction"
