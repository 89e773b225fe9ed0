"""Answers are counted as by hand, in whatever batches they come."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cl_lightning.core.rng import Key, integers, uniform
from cl_lightning.core.types import Readout
from cl_lightning.metrics.confusion import BINS, Answers, Tally, between_tasks, reliability

PROBABILITIES = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.3, 0.25], [0.5, 0.5, 0.1], [torch.nan, torch.nan, torch.nan]])
LABELS = torch.tensor([0, 2, 1, 2])


def answers(probabilities: Tensor, labels: Tensor, num_old: int) -> Answers:
    tally = Tally()
    tally.add_probabilities(probabilities, labels, num_old)
    assert tally.total is not None
    return tally.total


def answers_by(readout: Readout, scores: Tensor, labels: Tensor) -> Answers:
    tally = Tally()
    tally.add(readout, scores, labels, num_old=2)
    assert tally.total is not None
    return tally.total


def test_by_hand() -> None:
    found = answers(PROBABILITIES, LABELS, num_old=2)
    assert found.confusion.tolist() == [[1, 0, 0], [1, 0, 0], [1, 1, 0]], "ties and what is no number go to the first"
    old, new = (reliability(counts) for counts in found.reliability)
    assert old.images == (0, 0, 0, 0, 0, 1, 0, 0, 0, 1)
    assert old.confidence[5] == 0.5
    assert old.confidence[9] == pytest.approx(0.9, abs=1e-5)
    assert (old.accuracy[5], old.accuracy[9]) == (0.0, 1.0)
    assert old.calibration_error == pytest.approx((0.5 + 0.1) / 2, abs=1e-5)
    assert new.images == (1, 0, 0, 1, 0, 0, 0, 0, 0, 0)
    assert new.accuracy[:4] == (0.0, None, None, 0.0)
    assert new.calibration_error == pytest.approx(0.3 / 2, abs=1e-5)


def test_batches_do_not_matter() -> None:
    rows = torch.arange(200)
    probabilities, labels = uniform(Key(0), rows[:, None], torch.arange(7)), integers(Key(1), rows, 7)
    whole = answers(probabilities, labels, 3)
    parts = [answers(p, y, 3) for p, y in zip(probabilities.split(33), labels.split(33), strict=True)]
    summed = sum(parts[1:], parts[0])
    tally = Tally()
    for p, y in zip(probabilities.split(33), labels.split(33), strict=True):
        tally.add_probabilities(p, y, 3)
    assert tally.total is not None
    assert torch.equal(tally.total.confusion, whole.confusion)
    assert torch.equal(tally.total.reliability, whole.reliability)
    assert torch.equal(whole.confusion, summed.confusion)
    assert torch.equal(whole.reliability, summed.reliability)
    assert whole.confusion.sum() == whole.reliability[..., 0].sum() == 200
    assert torch.equal(whole.confusion.diagonal().sum(), whole.reliability[..., 1].sum())
    again = Answers.from_plain(whole.to_plain())
    assert torch.equal(again.confusion, whole.confusion)


def test_a_confidence_of_one_is_in_the_last_bin() -> None:
    found = answers(torch.tensor([[1.0, 0.0]]), torch.tensor([1]), num_old=1)
    assert found.reliability[1, BINS - 1].tolist() == [1, 0, 1 << 16]


def test_scores_that_rank_only_are_confused_but_not_confident() -> None:
    scores, labels = torch.tensor([[-3.0, -2.0, -9.0], [7.0, 0.0, 8.0]]), torch.tensor([1, 0])
    found = answers_by(Readout("none"), scores, labels)
    assert found.confusion.tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert not found.reliability.any()
    likely = answers_by(Readout(), scores, labels)
    assert torch.equal(likely.confusion, found.confusion)
    assert likely.reliability[..., 0].sum() == 2


def test_between_tasks_of_unequal_sizes() -> None:
    confusion = torch.arange(16).view(4, 4)
    assert between_tasks(confusion, [0, 1, 4]).tolist() == [
        [0, 1 + 2 + 3],
        [4 + 8 + 12, 5 + 6 + 7 + 9 + 10 + 11 + 13 + 14 + 15],
    ]


def test_nothing_has_no_calibration() -> None:
    assert reliability(torch.zeros(BINS, 3, dtype=torch.int64)).calibration_error is None
