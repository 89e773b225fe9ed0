"""Random numbers are functions of key, position and slot: the same everywhere, and good enough."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.core import rng
from cl_lightning.core.rng import Key

MASK = (1 << 64) - 1


def splitmix64(z: int) -> int:
    """The published finaliser on Python's unbounded integers."""
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def test_tensor_bits_equal_the_integer_formula() -> None:
    golden = 0x9E3779B97F4A7C15
    key = Key(7).fold("augment", 3)
    positions = torch.tensor([0, 1, 127, 10**12])
    for slot in (0, 5):
        expected = []
        for position in positions.tolist():
            inner = splitmix64(((position + 1) * golden + key.value) & MASK)
            expected.append(splitmix64((inner + (slot + 1) * golden) & MASK))
        found = [value & MASK for value in rng.bits(key, positions, slot).tolist()]
        assert found == expected


def test_a_stream_as_a_number_draws_what_its_key_and_position_draw() -> None:
    key, positions, slots = Key(3), torch.arange(5), torch.arange(4)[:, None]
    streams = rng.streams(key, positions)
    assert streams.dtype == torch.int64
    assert torch.equal(rng.bits_of(streams, slots), rng.bits(key, positions, slots))
    assert torch.equal(rng.bits_of(streams[2], 7), rng.bits(key, positions[2], 7))


def test_known_values_never_change() -> None:
    """A run made today must be repeatable tomorrow: changing these numbers changes every result."""
    key = Key(0).fold("task", 1, "main")
    assert key.value == 4587642419342543493
    assert rng.uniform(key, torch.arange(3), 2).tolist() == [0.9826208353042603, 0.22055453062057495, 0.602618932723999]


def test_folding_is_sequential_and_order_matters() -> None:
    assert Key(0).fold("a", 3) == Key(0).fold("a").fold(3)
    assert Key(0).fold("a", "b") != Key(0).fold("b", "a")
    assert (
        len({Key(seed).fold(task, epoch).value for seed in range(10) for task in range(10) for epoch in range(10)})
        == 1000
    )


def test_slots_broadcast_against_positions() -> None:
    key, positions, slots = Key(3), torch.arange(5), torch.arange(4)[:, None]
    grid = rng.uniform(key, positions, slots)
    assert grid.shape == (4, 5)
    for slot in range(4):
        assert torch.equal(grid[slot], rng.uniform(key, positions, slot))


@pytest.mark.slow
@pytest.mark.parametrize("along", ["positions", "slots", "keys"])
def test_uniform_in_every_direction(along: str) -> None:
    """Mean, variance, neighbours' correlation and a chi-square over 64 bins, along each address."""
    n = 20_000
    if along == "positions":
        u = rng.uniform(Key(1), torch.arange(n))
    elif along == "slots":
        u = rng.uniform(Key(1), torch.tensor([5]), torch.arange(n))
    else:
        u = torch.stack([rng.uniform(Key(1).fold(k), torch.tensor([5]))[0] for k in range(n)])
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 4 * (1 / 12 / n) ** 0.5
    assert abs(u.var() * 12 - 1) < 0.05
    assert abs(torch.corrcoef(torch.stack([u[1:], u[:-1]]))[0, 1]) < 4 / n**0.5
    counts = torch.histc(u, bins=64, min=0, max=1)
    chi2 = ((counts - n / 64) ** 2 / (n / 64)).sum()
    assert 63 - 4.5 * (2 * 63) ** 0.5 < chi2 < 63 + 4.5 * (2 * 63) ** 0.5


def test_normal_moments() -> None:
    x = rng.normal(Key(2), torch.arange(50_000)).double()
    assert abs(x.mean()) < 0.02
    assert abs(x.std() - 1) < 0.02
    assert abs((x**3).mean()) < 0.05
    assert abs((x**4).mean() - 3) < 0.15


def test_integers_cover_their_range_evenly() -> None:
    counts = rng.integers(Key(4), torch.arange(30_000), 15).bincount(minlength=15)
    assert len(counts) == 15
    assert (counts - 2000).abs().max() < 5 * 2000**0.5


def test_permutation_is_one_and_depends_on_the_key() -> None:
    order = rng.permutation(Key(0), 1000)
    assert torch.equal(order.sort().values, torch.arange(1000))
    assert not torch.equal(order, rng.permutation(Key(1), 1000))


def test_torch_seeded_leaves_the_global_stream_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    with rng.torch_seeded(Key(9)):
        inside = torch.rand(3)
    assert torch.equal(torch.rand(3), expected)
    with rng.torch_seeded(Key(9)):
        assert torch.equal(torch.rand(3), inside)
