"""MixUp against a loop over images, replica by replica, and the Beta distribution of its ratio."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation.mixup import mix_ratio, mixup, one_hot


def loop(values: torch.Tensor, ratios: list[float]) -> torch.Tensor:
    size = len(values) // len(ratios)
    rows = []
    for replica, ratio in enumerate(ratios):
        part = values[replica * size : (replica + 1) * size]
        rows += [ratio * part[i] + (1 - ratio) * part[size - 1 - i] for i in range(size)]
    return torch.stack(rows)


@pytest.mark.parametrize("ratios", [[0.3], [0.3, 0.9], [0.0, 1.0, 0.25, 0.6]])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_mixup_equals_a_loop(ratios: list[float], as_tensor: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(12, 3, 4, 5, generator=generator)
    targets = torch.rand(12, 7, generator=generator)
    before = images.clone(), targets.clone()
    mixed = mixup(images, targets, torch.tensor(ratios) if as_tensor else ratios)
    for got, values in zip(mixed, before, strict=True):
        torch.testing.assert_close(got, loop(values, ratios))
    assert torch.equal(images, before[0])
    assert torch.equal(targets, before[1])


def test_replicas_do_not_mix() -> None:
    """Image i is 1 in channel i: a mixed image tells what it was made of."""
    images = torch.eye(8)[:, :, None, None]
    mixed, targets = mixup(images, torch.eye(8), [0.5, 0.25])
    first, second = mixed[:4, :, 0, 0], mixed[4:, :, 0, 0]
    assert torch.equal(first[:, 4:], torch.zeros(4, 4))
    assert torch.equal(second[:, :4], torch.zeros(4, 4))
    assert second[0].tolist() == [0, 0, 0, 0, 0.25, 0, 0, 0.75]
    assert torch.equal(mixed[:, :, 0, 0], targets)


def test_the_middle_of_an_odd_replica_keeps_its_image() -> None:
    images = torch.arange(3.0)[:, None]
    assert mixup(images, torch.eye(3), [0.25])[0].flatten().tolist() == [1.5, 1.0, 0.5]


def test_mixup_refuses_what_it_would_silently_spoil() -> None:
    with pytest.raises(AssertionError, match="normalise first"):
        mixup(torch.zeros(4, 3, dtype=torch.uint8), torch.eye(4), [0.5])
    with pytest.raises(AssertionError, match="5 images have no 2 equal parts"):
        mixup(torch.zeros(5, 3), torch.eye(5), [0.5, 0.5])


def test_one_hot_by_hand() -> None:
    assert one_hot(torch.tensor([1, 0]), 2).tolist() == [[0, 1], [1, 0]]
    torch.testing.assert_close(
        one_hot(torch.tensor([2, 0]), 4, smoothing=0.1),
        torch.tensor([[0.025, 0.025, 0.925, 0.025], [0.925, 0.025, 0.025, 0.025]]),
    )


@pytest.mark.parametrize("alpha", [0.2, 0.8, 1.0, 4.0])
def test_the_ratio_is_beta_distributed(alpha: float) -> None:
    draws = [mix_ratio(Key(1).fold("mixup", step), alpha) for step in range(4000)]
    assert stats.kstest(draws, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    values = torch.tensor(draws, dtype=torch.float64)
    assert values.mean().item() == pytest.approx(0.5, abs=0.025)
    assert values.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)
    assert 0 <= values.min() < values.max() <= 1


def test_the_ratio_is_the_keys_alone() -> None:
    assert mix_ratio(Key(3), 0.8) == mix_ratio(Key(3), 0.8)
    assert mix_ratio(Key(3), 0.8) != mix_ratio(Key(4), 0.8)
