"""Optimisers from their description: groups, scaling, and steps equal to the algorithms written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Optimiser
from cl_lightning.optim.optimiser import FACTOR, Factors, base_rate, make_optimiser


def parameter(*shape: int, seed: int = 0) -> nn.Parameter:
    return nn.Parameter(rng.normal(Key(seed), torch.arange(torch.Size(shape).numel())).view(shape))


def gradient(of: Tensor, step: int) -> Tensor:
    return rng.normal(Key(100 + step), torch.arange(of.numel())).view(of.shape)


@pytest.mark.parametrize(("reference", "images", "expected"), [(None, 96, 0.2), (512, 128, 0.05), (512, 1024, 0.4)])
def test_the_rate_follows_the_batch_where_a_reference_is_given(
    reference: int | None, images: int, expected: float
) -> None:
    assert base_rate(Optimiser("adamw", 0.2, reference_batch=reference), images) == pytest.approx(expected)


def test_published_rates() -> None:
    """Two processes of 128 images each: 2.5e-4, and 2.5e-5 in fine-tuning."""
    assert base_rate(Optimiser("adamw", 5e-4, reference_batch=512), 256) == pytest.approx(2.5e-4)
    assert base_rate(Optimiser("adamw", 5e-5, reference_batch=512), 256) == pytest.approx(2.5e-5)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize(("decay_vectors", "of_vectors"), [(True, 0.3), (False, 0.0)])
def test_matrices_and_vectors_are_groups(name: str, decay_vectors: bool, of_vectors: float) -> None:
    token, weight, bias, gate = parameter(1, 1, 4), parameter(3, 4), parameter(3), parameter()
    made = make_optimiser(Optimiser(name, 9.0, 0.3, decay_vectors), [token, bias, weight, gate], lr=0.01)
    groups = made.param_groups
    assert [[id(p) for p in group["params"]] for group in groups] == [[id(token), id(weight)], [id(bias), id(gate)]]
    assert [group["weight_decay"] for group in groups] == [0.3, of_vectors]
    assert [group["lr"] for group in groups] == [0.01, 0.01], "the rate is the one given, scaled already"


def test_groups_without_parameters_are_left_out() -> None:
    assert len(make_optimiser(Optimiser("sgd", 1.0), [parameter(2, 2)], 0.1).param_groups) == 1
    assert len(make_optimiser(Optimiser("adamw", 1.0), [parameter(2)], 0.1).param_groups) == 1


def test_parameters_with_rates_of_their_own_are_groups_of_their_own() -> None:
    mask, weight, bias, other = parameter(5), parameter(3, 4), parameter(3), parameter(2, 2)
    made = make_optimiser(
        Optimiser("adamw", 9.0, 0.3, False),
        [mask, weight, bias, other],
        0.01,
        [Factors(400.0), Factors(), Factors(), Factors()],
    )
    groups = made.param_groups
    assert [[id(p) for p in group["params"]] for group in groups] == [[id(mask)], [id(weight), id(other)], [id(bias)]]
    assert [group["lr"] for group in groups] == pytest.approx([4.0, 0.01, 0.01])
    assert [group.get(FACTOR) for group in groups] == [400.0, None, None], "as it was where there are no rates"
    assert [group["weight_decay"] for group in groups] == [0.0, 0.3, 0.0]


def test_parameters_with_a_decay_of_their_own_are_groups_of_their_own() -> None:
    weight, mask, other = parameter(3, 4), parameter(5), parameter(2, 2)
    factors = [Factors(), Factors(decay=0.0), Factors(decay=2.0)]
    groups = make_optimiser(Optimiser("sgd", 9.0, 0.3), [weight, mask, other], 0.01, factors).param_groups
    assert [[id(p) for p in group["params"]] for group in groups] == [[id(weight)], [id(mask)], [id(other)]]
    assert [group["weight_decay"] for group in groups] == [0.3, 0.0, 0.6]
    assert [group["lr"] for group in groups] == [0.01] * 3


def take_steps(optimiser: Optimiser, parameters: list[nn.Parameter], lr: float) -> None:
    made = make_optimiser(optimiser, parameters, lr)
    for step in range(5):
        for p in parameters:
            p.grad = gradient(p, step)
        made.step()


def test_adamw_equals_its_equations() -> None:
    """Betas 0.9 and 0.999, epsilon 1e-8, decay decoupled from the gradient."""
    weight, bias = parameter(3, 4), parameter(3, seed=1)
    expected = []
    for p, decay in ((weight, 0.5), (bias, 0.0)):
        w, m, v = p.detach().double(), torch.zeros(p.shape).double(), torch.zeros(p.shape).double()
        for step in range(5):
            g = gradient(p, step).double()
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            w = w - 0.01 * decay * w
            w = w - 0.01 * (m / (1 - 0.9 ** (step + 1))) / ((v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
        expected.append(w.float())
    take_steps(Optimiser("adamw", 1.0, weight_decay=0.5, decay_vectors=False), [weight, bias], 0.01)
    for p, w in zip((weight, bias), expected, strict=True):
        torch.testing.assert_close(p.detach(), w, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.5])
def test_sgd_equals_its_equations(momentum: float) -> None:
    """Decay is added to the gradient; momentum without damping."""
    weight = parameter(3, 4)
    w, velocity = weight.detach().double(), torch.zeros(3, 4).double()
    for step in range(5):
        velocity = momentum * velocity + gradient(weight, step).double() + 0.5 * w
        w = w - 0.01 * velocity
    take_steps(Optimiser("sgd", 1.0, weight_decay=0.5, momentum=momentum), [weight], 0.01)
    torch.testing.assert_close(weight.detach(), w.float(), atol=1e-6, rtol=1e-5)


def test_unknown_optimisers_are_a_programming_error() -> None:
    with pytest.raises(AssertionError, match="lion"):
        make_optimiser(Optimiser("lion", 1.0), [parameter(2)], 0.1)
