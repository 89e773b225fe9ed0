"""Hard attention: masks and their compensated gradients, and which gradients of weights older tasks leave."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.models.hard_attention import Between, annealed, gate, share_open, spared

EMBEDDING = rng.normal(Key(4), torch.arange(40)).double().mul(3).clamp(-6, 6)


def gradient(s: float, s_max: float, compensation: str, dtype: torch.dtype = torch.float64) -> Tensor:
    """Of the sum of the masks, each times its number."""
    embedding = EMBEDDING.to(dtype, copy=True).requires_grad_()
    mask = gate(embedding, torch.tensor(s, dtype=dtype), s_max, compensation)
    assert torch.equal(mask, torch.sigmoid(s * EMBEDDING.to(dtype)))
    (mask * torch.arange(40, dtype=dtype)).sum().backward()
    assert embedding.grad is not None
    return embedding.grad


def expected(s_max: float) -> Tensor:
    return s_max * torch.sigmoid(EMBEDDING) * torch.sigmoid(-EMBEDDING) * torch.arange(40)


def test_the_scale_rises_within_an_epoch() -> None:
    assert annealed(0.0, 400) == pytest.approx(1 / 400)
    assert annealed(0.5, 400) == pytest.approx(200.00125)
    assert annealed(139 / 140, 400) < 400
    assert annealed(0.7, 1) == 1, "the smallest of largest scales is constant"


@pytest.mark.parametrize("s", [1 / 400, 0.3, 5.0, 399.0])
def test_the_exact_compensation_is_the_slope_at_scale_one(s: float) -> None:
    torch.testing.assert_close(gradient(s, 400.0, "exact"), expected(400.0))
    in_float32 = gradient(s, 400.0, "exact", torch.float32)
    torch.testing.assert_close(in_float32.double(), expected(400.0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("s", [1 / 8, 1.0, 2.0])
def test_the_published_compensation_is_the_same_where_nothing_rounds(s: float) -> None:
    torch.testing.assert_close(gradient(s, 8.0, "published"), expected(8.0), rtol=1e-6, atol=1e-9)


def test_the_published_compensation_gives_nothing_to_an_open_unit_in_float32() -> None:
    found = gradient(400.0, 400.0, "published", torch.float32)
    assert found.isfinite().all()
    assert not found[EMBEDDING > 0.05].any()
    closed = (EMBEDDING < 0) & (400 * EMBEDDING > -50)
    assert not closed.any() or bool(found[closed].any())
    assert gradient(400.0, 400.0, "exact", torch.float32)[1:].all()


def test_a_weight_is_spared_by_the_less_used_of_its_units() -> None:
    used = [torch.tensor([0.0, 1.0, 0.25]), torch.tensor([1.0, 0.5])]
    weight = nn.Parameter(torch.ones(2, 3, 1, 1))
    made = spared(weight, Between(1, 0), used)
    assert torch.equal(made, weight)
    made.sum().backward()
    assert weight.grad is not None
    assert weight.grad[..., 0, 0].tolist() == [[1.0, 0.0, 0.75], [1.0, 0.5, 0.75]]


@pytest.mark.parametrize(
    ("place", "shape", "factors"),
    [
        (Between(0), (2,), [1.0, 0.25]),
        (Between(0), (2, 2), [[1.0, 1.0], [0.25, 0.25]]),
        (Between(0, axis=-1), (1, 2, 2), [[[1.0, 0.25], [1.0, 0.25]]]),
        (Between(0, out_rows=2, out_times=2), (8,), [1.0, 1.0, 0.25, 0.25, 1.0, 1.0, 0.25, 0.25]),
        (Between(1, 0, into_columns=2), (1, 4), [[1.0, 1.0, 0.25, 0.25]]),
    ],
)
def test_places_of_every_kind(place: Between, shape: tuple[int, ...], factors: list[object]) -> None:
    weight = nn.Parameter(torch.zeros(shape))
    spared(weight, place, [torch.tensor([0.0, 0.75]), torch.tensor([1.0])]).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == factors


def test_a_mask_is_open_above_one_half() -> None:
    assert share_open(torch.tensor([0.0, 0.5, 0.51, 1.0])).item() == 0.5
