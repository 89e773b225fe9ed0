"""A phase that clamps its gradient, through the real Trainer."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.learning.a_phase import PHASE, TASKS, Bench, flat, toy


def test_no_element_of_a_clamped_gradient_takes_a_larger_step(bench: Bench) -> None:
    """Plain SGD at rate 0.1: three epochs' steps of at most 0.1 times the bound each."""
    bound, method = 1e-3, toy(2)
    before = flat(method.network)
    fitted, _ = bench.fit(method, TASKS[0], dataclasses.replace(PHASE, gradient_clamp=bound))
    moved = (flat(method.network) - before).abs().max().item()
    assert 0.5 * 0.1 * bound < moved <= 0.1 * bound * fitted.steps * 1.001
    free = toy(2)
    bench.fit(free, TASKS[0], PHASE)
    assert (flat(free.network) - before).abs().max().item() > 10 * moved


def test_an_infinite_gradient_is_not_clamped_away(bench: Bench) -> None:
    method = toy(2)
    method.broken = torch.inf
    with pytest.raises(FloatingPointError, match="step 1"):
        bench.fit(method, TASKS[0], dataclasses.replace(PHASE, gradient_clamp=1.0))
