"""DKT's loss on directions against a loop over pairs."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.losses.pair_similarity import pair_similarity, pair_weights

LABELS = torch.tensor([0, 3, 1, 0, 4])
STUDENT, TEACHER = rng.normal(Key(1), torch.arange(2 * 5 * 4)).view(2, 5, 4).double()


def test_weights_of_pairs() -> None:
    weights = pair_weights(LABELS, num_old=2)
    assert weights[0].tolist() == [4, -4, -1, 4, -4]
    assert weights[1].tolist() == [-4, 4, -4, -4, -1]
    assert torch.equal(weights, weights.T)


@pytest.mark.parametrize(("mean", "over"), [("pairs", 25), ("rows", 5)])
def test_equals_a_loop_over_pairs(mean: str, over: int) -> None:
    expected = torch.zeros((), dtype=torch.float64)
    for i, first in enumerate(STUDENT):
        for j, second in enumerate(TEACHER):
            same, mixed = LABELS[i] == LABELS[j], (LABELS[i] < 2) != (LABELS[j] < 2)
            cosine = first @ second / (first.norm() * second.norm())
            expected += (4 if same else -4 if mixed else -1) * (1 - cosine) / over
    torch.testing.assert_close(pair_similarity(STUDENT, TEACHER, LABELS, 2, mean), expected)


def test_lengths_do_not_count_and_nothing_has_no_direction() -> None:
    expected = pair_similarity(STUDENT, TEACHER, LABELS, 2)
    torch.testing.assert_close(pair_similarity(3 * STUDENT, TEACHER / 7, LABELS, 2), expected)
    zero = torch.zeros_like(STUDENT).requires_grad_()
    loss = pair_similarity(zero, TEACHER, LABELS, 2)
    loss.backward()
    assert loss.isfinite()
    assert zero.grad is not None
    assert zero.grad.isfinite().all()


def test_half_precision_is_computed_in_float32() -> None:
    assert pair_similarity(STUDENT.bfloat16(), TEACHER.bfloat16(), LABELS, 2).dtype == torch.float32
