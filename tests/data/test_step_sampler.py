"""The order of a phase: the published sampler's, and what holds for every order."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cl_lightning.core.rng import Key
from cl_lightning.core.types import Order, Sampling
from cl_lightning.data.step_sampler import PhaseSampler, repeated_order
from tests.golden import GOLDEN

PUBLISHED = Sampling(Order.REPEATED, ignore_seed=True, drop_last=True)
BATCH = 128


def draws(
    n: int, sampling: Sampling, *, replicas: int = 1, batch: int = BATCH, epochs: int = 1, seed: int = 0
) -> PhaseSampler:
    """Replica r looks at rows 100000 r to 100000 r + n - 1."""
    return PhaseSampler([100_000 * r + torch.arange(n) for r in range(replicas)], sampling, epochs, batch, Key(seed))


def epoch_of_replica(made: PhaseSampler, epoch: int, replica: int) -> list[int]:
    """Indices that a replica draws in an epoch, in order, from the steps alone."""
    first = epoch * made.steps_per_epoch
    parts = [made.step(step).rows.chunk(made.replicas)[replica] for step in range(first, first + made.steps_per_epoch)]
    return (torch.cat(parts) - 100_000 * replica).tolist()


# ---- the published sampler ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [600, 1000])
@pytest.mark.parametrize("replicas", [1, 2, 4])
@pytest.mark.parametrize("epoch", [0, 3])
def test_repeated_augmentation_draws_the_published_order(n: int, replicas: int, epoch: int) -> None:
    golden = np.load(GOLDEN / "recipe_schedule.npz", allow_pickle=False)
    made = draws(n, PUBLISHED, replicas=replicas, batch=32, epochs=4)
    for rank in range(replicas):
        expected = golden[f"repeated_augmentation/n{n}_world{replicas}_rank{rank}_epoch{epoch}"].tolist()
        assert made.draws_per_replica == len(expected)
        assert len(expected) % 32 == 0, "the batches hold all of it"
        assert epoch_of_replica(made, epoch, rank) == expected


@pytest.mark.parametrize(
    ("n", "replicas", "offered", "steps"),
    [
        (1000, 1, 768, 6), (2000, 1, 1792, 14), (3000, 1, 2816, 22), (5000, 1, 4864, 38), (6000, 1, 5888, 46),
        (7000, 1, 6912, 54), (50000, 1, 49920, 390),
        (1000, 2, 384, 3), (2000, 2, 896, 7), (3000, 2, 1408, 11), (5000, 2, 2432, 19), (6000, 2, 2944, 23),
        (7000, 2, 3456, 27), (50000, 2, 24960, 195),
        (1000, 4, 192, 1), (2000, 4, 448, 3), (50000, 8, 6240, 48),
    ],
)  # fmt: skip
def test_published_steps_per_epoch(n: int, replicas: int, offered: int, steps: int) -> None:
    made = draws(n, PUBLISHED, replicas=replicas, epochs=500)
    assert (made.draws_per_replica, made.steps_per_epoch, made.total_steps) == (offered, steps, 500 * steps)


@pytest.mark.parametrize(("n", "replicas", "steps"), [(1000, 8, 1), (256, 2, 1), (255, 1, 0), (100, 2, 0)])
def test_few_images_leave_one_partial_batch_or_nothing(n: int, replicas: int, steps: int) -> None:
    """1000 images for eight replicas: 96 draws each, the only batch; below 256 images the sampler is empty."""
    assert draws(n, PUBLISHED, replicas=replicas).steps_per_epoch == steps


@pytest.mark.parametrize(("replicas", "distinct"), [(1, 43), (2, 86), (4, 128)])
def test_how_many_images_a_replica_s_batch_shows(replicas: int, distinct: int) -> None:
    part = draws(5000, PUBLISHED, replicas=replicas).step(1).rows[:BATCH]
    assert abs(len(part.unique()) - distinct) <= 1


def test_copies_are_adjacent_and_wrapped() -> None:
    assert repeated_order(torch.tensor([2, 0, 1]), 1).tolist() == [2, 2, 2, 0, 0, 0, 1, 1, 1]
    assert repeated_order(torch.tensor([2, 0, 1]), 2).tolist() == [2, 2, 2, 0, 0, 0, 1, 1, 1, 2]
    assert repeated_order(torch.tensor([0, 1]), 8).tolist() == [0, 0, 0, 1, 1, 1, 0, 0]


def test_sequential_draws_leave_the_last_exemplars_out() -> None:
    """2000 exemplars in batches of 128: 80 are never seen; each replica goes through the whole list."""
    made = draws(2000, Sampling(Order.SEQUENTIAL, drop_last=True), replicas=2, epochs=20)
    assert (made.steps_per_epoch, made.total_steps) == (15, 300)
    for epoch in (0, 7):
        for replica in range(2):
            assert epoch_of_replica(made, epoch, replica) == list(range(1920))
    kept = draws(2000, Sampling(Order.SEQUENTIAL, drop_last=False))
    assert epoch_of_replica(kept, 0, 0) == list(range(2000))
    assert len(kept.step(15).rows) == 80


# ---- what always holds -------------------------------------------------------------------------------------------

ORDERS = st.sampled_from(list(Order))
PHASES = st.builds(
    draws,
    st.integers(1, 700),
    st.builds(Sampling, ORDERS, st.booleans(), st.booleans()),
    replicas=st.integers(1, 4),
    batch=st.integers(1, 90),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 2**64 - 1),
)


@pytest.mark.slow
@given(PHASES)
def test_batches_have_a_part_for_each_replica(made: PhaseSampler) -> None:
    for step in range(made.total_steps):
        draw = made.step(step)
        assert len(draw.rows) == len(draw.positions)
        assert 0 < len(draw.rows) <= made.batch * made.replicas
        assert len(draw.rows) % made.replicas == 0
        owners = (draw.rows // 100_000).chunk(made.replicas)
        assert [owner.unique().tolist() for owner in owners] == [[r] for r in range(made.replicas)]
        assert draw.epoch == step // made.steps_per_epoch
        assert draw.rows.dtype == draw.positions.dtype == torch.int64


@given(PHASES)
def test_positions_are_unique_in_an_epoch(made: PhaseSampler) -> None:
    for epoch in range(made.epochs if made.steps_per_epoch else 0):
        first = epoch * made.steps_per_epoch
        positions = torch.cat([made.step(first + k).positions for k in range(made.steps_per_epoch)])
        assert len(positions.unique()) == len(positions)
        assert positions.min() >= 0


@given(PHASES)
def test_epochs_of_shuffled_and_sequential_draws_visit_a_row_once(made: PhaseSampler) -> None:
    if made.sampling.order is Order.REPEATED:
        return
    for epoch in range(made.epochs if made.steps_per_epoch else 0):
        visited = [i for r in range(made.replicas) for i in epoch_of_replica(made, epoch, r)]
        times = torch.bincount(torch.tensor(visited), minlength=len(made.rows[0]))
        if made.sampling.order is Order.SHUFFLED:
            assert times.max() <= 1, "replicas share an epoch: none sees what another one has seen"
        else:
            assert set(times.tolist()) <= {0, made.replicas}
        left_out = int((times == 0).sum())
        remainder = made.draws_per_replica % made.batch if made.sampling.drop_last else 0
        decides = made.draws_per_replica
        if made.sampling.order is Order.SEQUENTIAL:  # published: by what repeated sampling would have drawn
            decides = len(made.rows[0]) // 256 * 256 // made.replicas
        if decides <= made.batch:
            remainder = 0
        if made.sampling.order is Order.SHUFFLED:
            assert left_out == len(made.rows[0]) % made.replicas + remainder * made.replicas
        else:
            assert left_out == remainder


@given(PHASES, st.randoms(use_true_random=False))
def test_a_step_is_computed_without_the_others(made: PhaseSampler, random: Random) -> None:
    expected = [made.step(step) for step in range(made.total_steps)]
    steps = list(range(made.total_steps))
    random.shuffle(steps)
    before = torch.get_rng_state()
    again = PhaseSampler(made.rows, made.sampling, made.epochs, made.batch, made.key)
    for step in steps:
        draw = again.step(step)
        assert torch.equal(draw.rows, expected[step].rows)
        assert torch.equal(draw.positions, expected[step].positions)
    assert torch.equal(torch.get_rng_state(), before), "the global stream is left alone"


@pytest.mark.slow
@given(PHASES)
def test_a_replica_s_positions_and_indices_do_not_depend_on_its_rows(made: PhaseSampler) -> None:
    """Replicas with memories of their own draw from them in the same places."""
    shifted = PhaseSampler([rows + 7 for rows in made.rows], made.sampling, made.epochs, made.batch, made.key)
    for step in range(made.total_steps):
        a, b = made.step(step), shifted.step(step)
        assert torch.equal(a.rows + 7, b.rows)
        assert torch.equal(a.positions, b.positions)


# ---- last batches ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "replicas", "steps"), [(500, 2, 4), (250, 2, 2), (1000, 8, 8), (2000, 2, 15)])
def test_repeated_sampling_decides_whether_stored_order_is_cut(n: int, replicas: int, steps: int) -> None:
    """As published: the incomplete batch goes only if the sampler that is not used would have filled one."""
    made = PhaseSampler([torch.arange(n)] * replicas, Sampling(Order.SEQUENTIAL), 1, 128, Key(0))
    assert made.steps_per_epoch == steps


@pytest.mark.parametrize("order", [Order.SHUFFLED])
@pytest.mark.parametrize(
    ("n", "drop_last", "sizes"),
    [
        (25, True, [10, 10]),
        (25, False, [10, 10, 5]),
        (20, True, [10, 10]),
        (20, False, [10, 10]),
        (10, True, [10]),
        (9, True, [9]),
        (9, False, [9]),
        (1, True, [1]),
    ],
)
def test_an_incomplete_batch_is_dropped_unless_it_is_the_only_one(
    order: Order, n: int, drop_last: bool, sizes: list[int]
) -> None:
    made = draws(n, Sampling(order, drop_last=drop_last), batch=10)
    assert [len(made.step(step).rows) for step in range(made.steps_per_epoch)] == sizes


def test_replicas_share_a_shuffled_epoch() -> None:
    made = draws(101, Sampling(drop_last=False), replicas=2, batch=20)
    assert made.draws_per_replica == 50
    assert [len(made.step(k).rows) for k in range(3)] == [40, 40, 20]


# ---- randomness --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [Order.SHUFFLED, Order.REPEATED])
def test_orders_change_with_key_and_epoch(order: Order) -> None:
    made, other = (draws(600, Sampling(order), epochs=2, seed=seed) for seed in (0, 1))
    first, second = epoch_of_replica(made, 0, 0), epoch_of_replica(made, 1, 0)
    assert first != second
    assert first != epoch_of_replica(other, 0, 0)
    assert first == epoch_of_replica(draws(600, Sampling(order), epochs=9, seed=0), 0, 0)


@pytest.mark.parametrize("order", [Order.SHUFFLED, Order.REPEATED])
def test_published_orders_know_the_epoch_alone(order: Order) -> None:
    made, other = (draws(600, Sampling(order, ignore_seed=True), epochs=2, seed=seed) for seed in (0, 1))
    assert epoch_of_replica(made, 0, 0) == epoch_of_replica(other, 0, 0)
    assert epoch_of_replica(made, 0, 0) != epoch_of_replica(made, 1, 0)


def test_replicas_of_unequal_length_are_a_programming_error() -> None:
    with pytest.raises(AssertionError, match="unequal"):
        PhaseSampler([torch.arange(3), torch.arange(4)], Sampling(), 1, 2, Key(0))


# ---- several copies of an image ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("replicas", "copies"), [(1, 12), (2, 6), (3, 2)])
def test_an_epoch_goes_over_each_copy_of_each_image_once(replicas: int, copies: int) -> None:
    rows = 100 + torch.arange(12)
    made = PhaseSampler([rows] * replicas, Sampling(copies=copies), 2, 4, Key(1))
    assert made.steps_per_epoch * 4 * replicas == 12 * copies
    epochs = []
    for epoch in range(2):
        steps = [made.step(epoch * made.steps_per_epoch + step) for step in range(made.steps_per_epoch)]
        addresses = torch.cat([step.copies for step in steps if step.copies is not None])
        assert torch.equal(addresses // copies, torch.cat([step.rows for step in steps]))
        assert sorted(addresses.tolist()) == list(range(100 * copies, 112 * copies))
        positions = torch.cat([step.positions for step in steps])
        assert sorted(positions.tolist()) == list(range(12 * copies)), "what else is random differs from copy to copy"
        epochs.append(addresses.tolist())
    assert epochs[0] != epochs[1], "another order"
    assert made.images == 2 * 12 * copies


def test_what_is_drawn_once_a_phase_is_addressed_by_its_row() -> None:
    made = PhaseSampler([7 * torch.arange(8)], Sampling(fixed=True), 2, 4, Key(1))
    for step in range(made.total_steps):
        drawn = made.step(step)
        assert drawn.copies is not None
        assert torch.equal(drawn.copies, drawn.rows)
    assert PhaseSampler([torch.arange(8)], Sampling(), 2, 4, Key(1)).step(0).copies is None


def test_of_a_stored_order_the_copies_are_adjacent() -> None:
    made = PhaseSampler([torch.arange(3)], Sampling(Order.SEQUENTIAL, copies=2, drop_last=False), 1, 6, Key(1))
    drawn = made.step(0)
    assert drawn.rows.tolist() == [0, 0, 1, 1, 2, 2]
    assert drawn.copies is not None
    assert drawn.copies.tolist() == list(range(6))
