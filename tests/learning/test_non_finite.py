"""A step that is not finite is not applied, on no condition of the host's, and is told with its name."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cl_lightning.learning.non_finite import NonFiniteGuard

NAMES = ("classification", "gradient")


def stepped(losses: list[float], optimiser_name: str) -> tuple[list[float], NonFiniteGuard]:
    """The weight after each step of a loss ``factor * w``, whose gradient is ``factor``."""
    weight = nn.Parameter(torch.tensor([1.0]))
    make = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimiser_name]
    options = {"momentum": 0.9} if optimiser_name == "sgd" else {}
    optimiser, watch, values = make([weight], lr=0.1, fused=True, **options), NonFiniteGuard(), []
    for step, factor in enumerate(losses, start=1):
        optimiser.zero_grad()
        loss = (factor * weight).sum()
        watch.poison(loss).backward()
        norm = watch.guard(optimiser, [weight])
        optimiser.step()
        watch.enqueue(step, NAMES, torch.stack([loss, norm]))
        values.append(weight.item())
    return values, watch


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nothing_is_applied_from_a_bad_step_on(optimiser: str, bad: float) -> None:
    good, _ = stepped([1.0, 2.0, 3.0], optimiser)
    values, watch = stepped([1.0, 2.0, bad, 3.0, 4.0], optimiser)
    assert values[:2] == good[:2]
    assert values[2:] == [good[1]] * 3
    seen = dict(watch.arrived(wait=True))
    assert list(seen) == [1, 2, 3, 4, 5]
    assert str(seen[3]["classification"]) == str(bad)
    assert all(math.isfinite(value) for step in (1, 2) for value in seen[step].values())


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_the_first_step_may_be_the_bad_one(optimiser: str) -> None:
    values, _ = stepped([math.nan, 1.0], optimiser)
    assert values == [1.0, 1.0]


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_good_steps_are_those_of_the_optimiser_alone(optimiser: str) -> None:
    weight = nn.Parameter(torch.tensor([1.0]))
    plain = (
        torch.optim.SGD([weight], lr=0.1, momentum=0.9, fused=True)
        if optimiser == "sgd"
        else torch.optim.AdamW([weight], lr=0.1, fused=True)
    )
    expected = []
    for factor in (1.0, 2.0, 3.0):
        plain.zero_grad()
        (factor * weight).sum().backward()
        plain.step()
        expected.append(weight.item())
    values, watch = stepped([1.0, 2.0, 3.0], optimiser)
    assert values == expected
    assert [step for step, _ in watch.arrived(wait=True)] == [1, 2, 3]
    assert list(watch.arrived(wait=True)) == [], "told once"


def test_an_infinite_loss_with_a_finite_gradient_is_bad_too() -> None:
    weight, watch = nn.Parameter(torch.tensor([1.0])), NonFiniteGuard()
    optimiser = torch.optim.SGD([weight], lr=0.1, fused=True)
    loss = weight.sum() + math.inf
    watch.poison(loss).backward()
    watch.guard(optimiser, [weight])
    optimiser.step()
    assert weight.item() == 1.0


def test_a_gradient_that_overflows_is_bad_though_the_loss_is_finite() -> None:
    weight, watch = nn.Parameter(torch.tensor([0.0])), NonFiniteGuard()
    optimiser = torch.optim.SGD([weight], lr=0.1, fused=True)
    loss = weight.abs().sqrt().sum()  # 0, with an infinite slope
    watch.poison(loss).backward()
    norm = watch.guard(optimiser, [weight])
    optimiser.step()
    assert weight.item() == 0.0
    watch.enqueue(1, NAMES, torch.stack([loss, norm]))
    ((step, values),) = watch.arrived()
    assert step == 1
    assert values["classification"] == 0.0
    assert not math.isfinite(values["gradient"])


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")  # a prototype, torch says
def test_on_a_gpu_the_host_does_not_wait_and_still_hears_of_it() -> None:
    weight, watch = nn.Parameter(torch.tensor([1.0], device="cuda")), NonFiniteGuard()
    optimiser = torch.optim.AdamW([weight], lr=0.1, fused=True)
    for step in range(1, 6):
        loss = (weight * (math.nan if step == 3 else 1.0)).sum()
        watch.poison(loss).backward()
        norm = watch.guard(optimiser, [weight])
        with torch.cuda.device(0):
            try:
                torch.cuda.set_sync_debug_mode("error")
                optimiser.step()
                watch.enqueue(step, NAMES, torch.stack([loss, norm]))
            finally:
                torch.cuda.set_sync_debug_mode("default")
    seen = dict(watch.arrived(wait=True))
    assert [step for step, values in seen.items() if not math.isfinite(values["classification"])] == [3]
