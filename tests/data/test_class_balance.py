"""Weights and draws of classes against what they are meant to even out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cl_lightning.core.rng import Key
from cl_lightning.core.types import Order, Sampling
from cl_lightning.data.class_balance import ClassDraws, class_counts, class_weights, is_even
from cl_lightning.data.step_sampler import PhaseSampler

LABELS = torch.tensor([0] * 90 + [1] * 10 + [2] * 60)
SHUFFLED = Sampling(Order.SHUFFLED, drop_last=False)


def sampler(
    sampling: Sampling = SHUFFLED, *, replicas: int = 1, batch: int = 10, epochs: int = 40, seed: int = 0
) -> PhaseSampler:
    rows = [torch.arange(160)] * replicas
    return PhaseSampler(rows, sampling, epochs, batch, Key(seed), ClassDraws.of(rows, LABELS))


def drawn(made: PhaseSampler) -> torch.Tensor:
    return torch.cat([made.step(step).rows for step in range(made.total_steps)])


# ---- weights ---------------------------------------------------------------------------------------------------------


def test_weights_are_by_inverse_frequency() -> None:
    weights = class_weights(torch.tensor([90, 10, 0, 60]))
    torch.testing.assert_close(weights, torch.tensor([160 / 270, 160 / 30, 0.0, 160 / 180]))


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=20).filter(any))
def test_the_mean_weight_of_the_images_is_one_and_classes_weigh_alike(counts: list[int]) -> None:
    numbers = torch.tensor(counts)
    weighed = class_weights(numbers).double() * numbers
    assert weighed.sum() == pytest.approx(sum(counts), rel=1e-5)
    assert weighed[numbers > 0].tolist() == pytest.approx(
        [sum(counts) / sum(map(bool, counts))] * sum(map(bool, counts))
    )


def test_counts_are_of_all_replicas() -> None:
    rows = [torch.tensor([0, 91, 92]), torch.tensor([1, 2, 93])]
    assert class_counts(rows, LABELS, 4).tolist() == [3, 3, 0, 0]


@pytest.mark.parametrize(("counts", "even"), [([5, 5, 0], True), ([5, 4], False), ([0, 0], True), ([3], True)])
def test_classes_are_even_whatever_is_not_in_the_phase(counts: list[int], even: bool) -> None:
    assert is_even(torch.tensor(counts)) is even


# ---- draws -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [Order.SHUFFLED, Order.REPEATED])
def test_each_class_is_drawn_as_often_and_each_of_its_images(order: Order) -> None:
    rows = [torch.arange(320)]
    labels = torch.cat([LABELS, LABELS])
    made = PhaseSampler(rows, Sampling(order), 200, 32, Key(3), ClassDraws.of(rows, labels))
    seen = drawn(made)
    shares = labels[seen].bincount().double() / len(seen)
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.01)
    of_class = seen[labels[seen] == 1].bincount(minlength=320)[labels == 1].double()
    assert (of_class / of_class.sum()).tolist() == pytest.approx([1 / 20] * 20, abs=0.01)


def test_as_many_steps_as_without() -> None:
    for order in (Order.SHUFFLED, Order.REPEATED):
        made = sampler(Sampling(order), batch=32)
        plain = PhaseSampler(made.rows, made.sampling, made.epochs, made.batch, made.key)
        assert (made.total_steps, made.images) == (plain.total_steps, plain.images)


def test_a_step_is_a_function_of_its_number() -> None:
    made, again = sampler(), sampler()
    backwards = {step: again.step(step).rows for step in reversed(range(again.total_steps))}
    assert all(torch.equal(made.step(step).rows, backwards[step]) for step in range(made.total_steps))
    assert not torch.equal(drawn(made), drawn(sampler(seed=1)))
    assert not torch.equal(made.step(0).rows, made.step(made.steps_per_epoch).rows), "epochs differ"


def test_shares_of_several_processes_are_the_whole_step() -> None:
    made = sampler(replicas=4, batch=5)
    for step in (0, 3, 9):
        shares = [made.of(range(first, first + 2)).step(step) for first in (0, 2)]
        assert torch.equal(torch.cat([share.rows for share in shares]), made.step(step).rows)
    assert len(drawn(made)[:160].unique()) > 60, "replicas draw different images"


def test_copies_of_repeated_augmentation_are_of_one_draw() -> None:
    rows = [torch.arange(320)]
    draws = ClassDraws.of(rows, torch.cat([LABELS, LABELS]))
    step = PhaseSampler(rows, Sampling(Order.REPEATED), 1, 30, Key(0), draws).step(0).rows
    assert (step.view(-1, 3) == step.view(-1, 3)[:, :1]).all()


def test_each_replica_draws_from_its_own_rows() -> None:
    rows = [torch.tensor([0, 90, 91, 92]), torch.tensor([1, 2, 3, 93])]
    made = PhaseSampler(rows, Sampling(drop_last=False), 50, 2, Key(0), ClassDraws.of(rows, LABELS))
    for replica in range(2):
        seen = torch.cat([made.step(step, range(replica, replica + 1)).rows for step in range(made.total_steps)])
        assert set(seen.tolist()) == set(rows[replica].tolist())
        assert LABELS[seen].double().mean() == pytest.approx(0.5, abs=0.15)


def test_the_seed_may_be_ignored() -> None:
    ignoring = Sampling(ignore_seed=True)
    assert torch.equal(drawn(sampler(ignoring)), drawn(sampler(ignoring, seed=1)))
