"""Clamping and clipping gradients, in place: each element, or all together; an overflow in half precision stays
visible.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cl_lightning.optim.gradients import clamp_gradients, clip_gradients


def parameters(*gradients: list[float] | None) -> list[nn.Parameter]:
    made = [nn.Parameter(torch.zeros(3)) for _ in gradients]
    for parameter, gradient in zip(made, gradients, strict=True):
        parameter.grad = None if gradient is None else torch.tensor(gradient)
    return made


@pytest.mark.parametrize("scale", [None, torch.tensor(1.0)])
def test_each_element_is_clamped_by_itself(scale: torch.Tensor | None) -> None:
    first, none, second = parameters([-9.0, 4.9, 5.1], None, [0.0, -5.0, 7.0])
    clamp_gradients([first, none, second], 5.0, scale)
    assert first.grad is not None
    assert second.grad is not None
    assert first.grad.tolist() == pytest.approx([-5.0, 4.9, 5.0])
    assert second.grad.tolist() == [0.0, -5.0, 5.0]
    assert none.grad is None


def test_in_half_precision_the_bound_has_the_gradients_scale() -> None:
    (parameter,) = parameters([600.0, -100.0, 400.0])
    clamp_gradients([parameter], 5.0, torch.tensor(100.0))
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [500.0, -100.0, 400.0]


def test_an_overflow_stays_one() -> None:
    (parameter,) = parameters([math.inf, math.nan, -math.inf])
    clamp_gradients([parameter], 5.0, torch.tensor(2.0))
    assert parameter.grad is not None
    assert not parameter.grad.isfinite().any()


def test_a_long_gradient_is_shortened_as_a_whole() -> None:
    first, none, second = parameters([3.0, 0.0, 0.0], None, [0.0, 4.0, 0.0])
    again = parameters([3.0, 0.0, 0.0], [0.0, 4.0, 0.0])
    clip_gradients([first, none, second], 1.0)
    torch.nn.utils.clip_grad_norm_(again, 1.0)
    assert [p.grad.tolist() for p in (first, second)] == [p.grad.tolist() for p in again]  # type: ignore[union-attr]
    assert none.grad is None
    clip_gradients([none], 1.0)


@pytest.mark.parametrize("scale", [None, torch.tensor(64.0)])
def test_a_short_gradient_stays_as_it_is(scale: torch.Tensor | None) -> None:
    (parameter,) = parameters([3.0, -4.0, 0.0])
    clip_gradients([parameter], 6.0, scale)
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [3.0, -4.0, 0.0]


def test_in_half_precision_the_norm_has_the_gradients_scale() -> None:
    (parameter,) = parameters([300.0, -400.0, 0.0])
    clip_gradients([parameter], 1.0, torch.tensor(100.0))
    assert parameter.grad is not None
    assert parameter.grad.tolist() == pytest.approx([60.0, -80.0, 0.0], rel=1e-5)


def test_an_overflow_is_not_shortened_to_nothing() -> None:
    (parameter,) = parameters([math.inf, 1.0, 2.0])
    clip_gradients([parameter], 1.0, torch.tensor(2.0))
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [math.inf, 1.0, 2.0]
