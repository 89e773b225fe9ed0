"""Learning rates: equal to those that the published runs used, and to schedules worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cl_lightning.core.types import Schedule
from cl_lightning.optim.schedule import learning_rate
from tests.golden import GOLDEN

PUBLISHED = Schedule("cosine", warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-5, lag=True)
BASE = 1.25e-4


def rates(schedule: Schedule, base: float, epochs: int) -> list[float]:
    return [learning_rate(schedule, base, epoch, epochs) for epoch in range(epochs)]


@pytest.mark.parametrize("epochs", [500, 30])
def test_the_published_rates_of_every_epoch(epochs: int) -> None:
    golden = np.load(GOLDEN / "recipe_schedule.npz", allow_pickle=False)[f"lr_used/{epochs}_epochs"]
    assert rates(PUBLISHED, BASE, epochs) == pytest.approx(golden.tolist(), rel=1e-12)


def test_the_first_and_the_last_published_rates_by_number() -> None:
    """As in the log that a user of the published code made public."""
    expected = [1e-6, 1e-6, 2.58e-5, 5.06e-5, 7.54e-5, 1.002e-4, 1.24972e-4, 1.24959e-4, 1.24944e-4]
    assert rates(PUBLISHED, BASE, 500)[:9] == pytest.approx(expected, rel=5e-6)
    assert learning_rate(PUBLISHED, BASE, 499, 500) == pytest.approx(1.0004539958e-5, rel=1e-10)


def test_lag_shifts_the_schedule_by_an_epoch() -> None:
    lagging, prompt = PUBLISHED, Schedule("cosine", warmup_epochs=5, warmup_lr=1e-6, min_lr=1e-5)
    a, b = rates(lagging, BASE, 40), rates(prompt, BASE, 40)
    assert a[1:] == b[:-1]
    assert a[0] == b[0]
    assert b[1] != b[0]


def test_the_cosine_counts_from_the_first_epoch_not_from_the_end_of_the_warm_up() -> None:
    schedule = Schedule("cosine", warmup_epochs=2, warmup_lr=0.1, min_lr=0.0)
    assert rates(schedule, 1.0, 4) == pytest.approx([0.1, 0.55, 0.5, 0.5 * (1 - 0.5**0.5)])


def test_steps_after_the_share_of_the_phase_that_the_papers_name() -> None:
    """Epochs 100 and 120 of 170, after ten of warm-up."""
    schedule = Schedule("steps", warmup_epochs=10, warmup_lr=0.01, milestones=(0.5882, 0.7059), gamma=0.1)
    expected = [0.01 + 0.009 * e for e in range(10)] + [0.1] * 90 + [0.01] * 20 + [0.001] * 50
    assert rates(schedule, 0.1, 170) == pytest.approx(expected)
    shrunk = Schedule("steps", milestones=(0.7, 0.9), gamma=0.2)
    assert rates(shrunk, 2.0, 70) == pytest.approx([2.0] * 49 + [0.4] * 14 + [0.08] * 7)
    assert rates(shrunk, 2.0, 10) == pytest.approx([2.0] * 7 + [0.4] * 2 + [0.08])


def test_constant() -> None:
    assert rates(Schedule("constant"), 3e-5, 20) == [3e-5] * 20
    assert rates(Schedule("constant", warmup_epochs=2, warmup_lr=0.0), 1.0, 4) == [0.0, 0.5, 1.0, 1.0]
    assert rates(Schedule("constant", warmup_epochs=2, warmup_lr=0.0, lag=True), 1.0, 4) == [0.0, 0.0, 0.5, 1.0]


def test_a_base_below_the_lowest_rate_is_not_raised() -> None:
    assert rates(Schedule("cosine", min_lr=1e-5), 1e-6, 7) == pytest.approx([1e-6] * 7)


@given(
    name=st.sampled_from(["constant", "cosine", "steps"]),
    epochs=st.integers(1, 60),
    warmup=st.floats(0, 12),
    base=st.floats(1e-6, 1.0),
    lag=st.booleans(),
)
def test_rates_stay_between_their_ends_and_fall_after_the_warm_up(
    name: str, epochs: int, warmup: float, base: float, lag: bool
) -> None:
    schedule = Schedule(name, warmup, warmup_lr=1e-6, min_lr=1e-5, milestones=(0.3, 0.6), gamma=0.5, lag=lag)
    values = torch.tensor(rates(schedule, base, epochs), dtype=torch.float64)
    assert values.max() <= base * (1 + 1e-9)
    assert values.min() >= min(1e-6, base / 4) * (1 - 1e-9)
    start = min(int(-(-warmup // 1)) + lag, epochs)
    assert (values[start:].diff() <= 1e-15).all(), "after the warm-up it never rises"
    assert (values[: start or 1].diff() >= 0).all(), "during the warm-up it never falls"


def test_unknown_schedules_are_a_programming_error() -> None:
    with pytest.raises(AssertionError, match="linear"):
        learning_rate(Schedule("linear"), 1.0, 0, 1)
