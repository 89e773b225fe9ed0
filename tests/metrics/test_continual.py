"""Continual-learning metrics against numbers worked out by hand and against a public log."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.metrics.accuracy import AccuracyMatrix, count
from cl_lightning.metrics.continual import (
    average_incremental_accuracy,
    backward_transfer,
    final_backward_transfer,
    forgetting,
    forgetting_by_task,
    forward_transfer,
    incremental_accuracies,
    last_accuracy,
    legacy_continuum_bwt,
    legacy_continuum_forgetting,
    next_task_transfer,
)

LOGGED = [[92.5], [87.7, 83.4], [80.0, 74.0, 82.0]]
"""Per-task accuracies in % of a published single-GPU run (dytox issue 2)."""


def test_one_task_has_nothing_to_forget():
    for metric in (forgetting, backward_transfer, final_backward_transfer):
        assert metric(LOGGED[:1]) is None
    assert forgetting_by_task(LOGGED[:1]) == []


def test_forgetting_of_the_logged_run():
    assert forgetting(LOGGED[:2]) == pytest.approx(4.8)
    assert forgetting_by_task(LOGGED) == pytest.approx([12.5, 9.4])
    assert forgetting(LOGGED) == pytest.approx(10.95)


def test_backward_transfer_of_the_logged_run():
    assert backward_transfer(LOGGED[:2]) == pytest.approx(-4.8)
    assert backward_transfer(LOGGED) == pytest.approx(-8.9)
    assert final_backward_transfer(LOGGED) == pytest.approx(-10.95)


def test_forward_transfer_by_hand():
    """Above the diagonal: tasks that have not been learnt yet."""
    R = [[0.9, 0.3, 0.2], [0.8, 0.9, 0.4], [0.7, 0.8, 0.9]]
    assert forward_transfer(R) == pytest.approx((0.3 + 0.2 + 0.4) / 3)
    assert next_task_transfer(R, [0.5, 0.1, 0.25]) == pytest.approx((0.3 - 0.1 + 0.4 - 0.25) / 2)


def test_without_scores_of_classes_to_come_there_is_no_forward_transfer():
    assert forward_transfer(LOGGED) is None
    assert next_task_transfer(LOGGED, [10.0, 10.0, 10.0]) is None
    assert forward_transfer([[0.9, None], [0.8, 0.9]]) is None
    assert forward_transfer([[0.9]]) is None, "one task has none to come"


def test_legacy_values_are_the_digits_of_the_log():
    assert legacy_continuum_forgetting(LOGGED[:1]) == 0.0
    assert legacy_continuum_forgetting(LOGGED[:2]) == 0.0
    assert legacy_continuum_forgetting(LOGGED) == pytest.approx(6.25)
    assert legacy_continuum_bwt(LOGGED[:1]) == 0.0
    assert legacy_continuum_bwt(LOGGED[:2]) == 0.0
    assert legacy_continuum_bwt(LOGGED) == pytest.approx(-4.17, abs=0.005)


def test_forgetting_looks_back_to_the_best_value_and_not_to_the_first():
    R = [[0.5], [0.75, 0.5], [0.25, 0.5, 1.0]]
    assert forgetting_by_task(R) == [0.5, 0.0]
    assert final_backward_transfer(R) == pytest.approx((-0.25 + 0.0) / 2)
    assert backward_transfer(R) == pytest.approx((0.25 - 0.25 + 0.0) / 3)


def test_forgetting_is_negative_where_old_tasks_improve():
    assert forgetting([[0.5], [0.75, 0.5]]) == -0.25


@pytest.mark.parametrize(("increment", "steps"), [(10, 10), (20, 5), (50, 2), (2, 50)])
def test_total_forgetting_is_total_for_any_increment(increment, steps):
    matrix = AccuracyMatrix()
    for after in range(steps):
        seen = increment * (after + 1)
        labels = torch.arange(seen)
        logits = torch.eye(seen)
        logits[: increment * after] = logits[: increment * after].roll(1, dims=1)  # every old image is wrong
        matrix = matrix.with_row(after, count(logits, labels, range(0, seen + 1, increment)))
    assert forgetting(matrix.accuracies()) == 1.0
    assert backward_transfer(matrix.accuracies()) == -1.0
    assert incremental_accuracies(matrix) == pytest.approx([1 / (after + 1) for after in range(steps)])


def test_averages_use_counts_where_tasks_are_unequal():
    # A base task of 50 images, then one of 10.
    matrix = AccuracyMatrix((((40, 45, 50),), ((30, 40, 50), (9, 10, 10))))
    assert incremental_accuracies(matrix) == [0.8, 39 / 60]
    assert average_incremental_accuracy(matrix) == pytest.approx((0.8 + 0.65) / 2)
    assert last_accuracy(matrix) == 0.65
    assert last_accuracy(matrix, top=5) == 50 / 60


def test_a_matrix_with_a_hole_is_refused():
    with pytest.raises(ValueError, match="row 1 of an accuracy matrix has 1 tasks"):
        forgetting([[0.5], [0.5]])


def test_what_needs_a_missing_evaluation_is_missing():
    R = [[0.9], [0.8, 0.9], [None, 0.7, 1.0]]
    assert forgetting_by_task(R) == [None, pytest.approx(0.2)]
    assert (forgetting(R), backward_transfer(R), final_backward_transfer(R)) == (None, None, None)
    later = [[0.9], [None, 0.9], [0.6, 0.7, 1.0]]
    assert forgetting_by_task(later) == [None, pytest.approx(0.2)], "what is missing might have been the best"
    assert final_backward_transfer(later) == pytest.approx((-0.3 - 0.2) / 2), "it looks at first and last only"
    matrix = AccuracyMatrix((((1, 2, 4),), ((0, 0, 0), (3, 4, 4))))
    assert (average_incremental_accuracy(matrix), last_accuracy(matrix)) == (None, None)
