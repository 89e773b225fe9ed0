"""Counts against a slow reference that looks at one image at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_lightning.core.rng import Key, integers, uniform
from cl_lightning.core.types import PROTOCOLS, TASK_INCREMENTAL, TASK_INFERENCE
from cl_lightning.metrics.accuracy import AccuracyMatrix, Counts, count, count_by_class


def slow_count(logits, labels, offsets, protocol):
    """Sort the competing classes (or tasks, by their best class) of each image by (score descending, class
    ascending).
    """
    hits1, hits5, total = ([0] * (len(offsets) - 1) for _ in range(3))
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        task = next(t for t in range(len(offsets) - 1) if offsets[t] <= label < offsets[t + 1])
        rivals, right = list(enumerate(row)), label
        if protocol == TASK_INCREMENTAL:
            rivals = rivals[offsets[task] : offsets[task + 1]]
        elif protocol == TASK_INFERENCE:
            rivals = [(t, max(row[offsets[t] : offsets[t + 1]])) for t in range(len(offsets) - 1)]
            right = task
        ranking = [which for which, _ in sorted(rivals, key=lambda rival: (-rival[1], rival[0]))]
        total[task] += 1
        hits1[task] += ranking[0] == right
        hits5[task] += right in ranking[:5]
    return [hits1, hits5, total]


@st.composite
def problems(draw):
    sizes = draw(st.lists(st.integers(1, 7), min_size=1, max_size=4))
    offsets = [sum(sizes[:k]) for k in range(len(sizes) + 1)]
    batch = draw(st.integers(0, 12))
    # Few distinct values: ties everywhere.
    values = st.lists(st.integers(-2, 2), min_size=offsets[-1], max_size=offsets[-1])
    logits = draw(st.lists(values, min_size=batch, max_size=batch))
    labels = draw(st.lists(st.integers(0, offsets[-1] - 1), min_size=batch, max_size=batch))
    logits = torch.tensor(logits, dtype=torch.float32).reshape(batch, offsets[-1])
    return logits, torch.tensor(labels, dtype=torch.int64), offsets


@given(problems(), st.sampled_from(PROTOCOLS))
@settings(max_examples=60, deadline=None)
def test_count_matches_one_image_at_a_time(problem, protocol):
    logits, labels, offsets = problem
    counts = count(logits, labels, offsets, protocol)
    assert counts.to_tensor().dtype == torch.int64
    assert counts.to_tensor().tolist() == slow_count(logits, labels, offsets, protocol)


@given(problems(), st.integers(0, 12), st.sampled_from(PROTOCOLS))
@settings(max_examples=50, deadline=None)
def test_counts_add_up_however_the_batch_is_cut(problem, cut, protocol):
    logits, labels, offsets = problem
    parts = count(logits[:cut], labels[:cut], offsets, protocol) + count(logits[cut:], labels[cut:], offsets, protocol)
    assert parts.to_tensor().equal(count(logits, labels, offsets, protocol).to_tensor())


def test_protocols_differ_where_another_task_wins():
    logits = torch.tensor([[1.0, 0.0, 9.0, 0.0]])  # class 0 of task 0, beaten only by class 2 of task 1
    labels = torch.tensor([0])
    assert count(logits, labels, (0, 2, 4)).hits1.tolist() == [0, 0]
    assert count(logits, labels, (0, 2, 4), TASK_INCREMENTAL).hits1.tolist() == [1, 0]
    assert count(logits, labels, (0, 2, 4), TASK_INFERENCE).hits1.tolist() == [0, 0]
    assert count(logits, torch.tensor([3]), (0, 2, 4)).hits1.tolist() == [0, 0]
    assert count(logits, torch.tensor([3]), (0, 2, 4), TASK_INFERENCE).hits1.tolist() == [0, 1], (
        "wrong class, right task"
    )


def test_a_task_is_inferred_from_scores_below_zero_too():
    logits = torch.tensor([[-2.0, -1.0]])  # as log-probabilities are
    assert count(logits, torch.tensor([1]), (0, 1, 2), TASK_INFERENCE).hits1.tolist() == [0, 1]


def test_ties_go_to_the_lowest_class():
    logits = torch.zeros(3, 3)
    assert count(logits, torch.tensor([0, 1, 2]), (0, 1, 2, 3)).hits1.tolist() == [1, 0, 0]


def test_a_score_that_is_not_a_number_is_a_wrong_answer():
    logits = torch.full((2, 4), float("nan"))
    logits[1] = torch.tensor([5.0, 0.0, float("nan"), 0.0])
    counts = count(logits, torch.tensor([0, 0]), (0, 4))
    assert (counts.hits1.tolist(), counts.hits5.tolist(), counts.total.tolist()) == ([0], [0], [2])


def test_infinite_scores_are_compared():
    logits = torch.tensor([[-torch.inf, -torch.inf, 0.0], [torch.inf, 1.0, 0.0]])
    assert count(logits, torch.tensor([2, 0]), (0, 3)).hits1.tolist() == [2]


def test_zeros_are_neutral_and_tensors_go_round():
    counts = Counts(torch.tensor([1, 2]), torch.tensor([2, 2]), torch.tensor([3, 4]))
    assert (Counts.zeros(2) + counts).to_tensor().equal(counts.to_tensor())
    assert Counts.from_tensor(counts.to_tensor()).total.tolist() == [3, 4]


@pytest.mark.parametrize("offsets", [(0, 2), (1, 4), (0, 3, 2, 4), (0, 2, 2, 4)])
def test_offsets_must_cover_the_scores(offsets):
    with pytest.raises(ValueError, match=r"class offsets .* 4 scores"):
        count(torch.zeros(1, 4), torch.tensor([0]), offsets)


def counts_of(*cells):
    return Counts.from_tensor(torch.tensor(cells).T.contiguous())


def test_matrix_accuracies_weigh_images_not_tasks():
    matrix = AccuracyMatrix().with_row(0, counts_of((90, 95, 100)))
    matrix = matrix.with_row(1, counts_of((60, 90, 100), (5, 10, 10)))
    assert matrix.accuracies() == [[0.9], [0.6, 0.5]]
    assert matrix.accuracies(top=5) == [[0.95], [0.9, 1.0]]
    assert matrix.seen(1) == 65 / 110  # the mean over tasks would be 0.55
    assert matrix.seen(1, top=5) == 100 / 110


def test_matrix_is_a_value_and_an_evaluation_can_be_repeated():
    first = AccuracyMatrix().with_row(0, counts_of((1, 2, 4)))
    again = first.with_row(0, counts_of((3, 4, 4)))
    assert (first.accuracies(), again.accuracies()) == ([[0.25]], [[0.75]])
    assert len(again) == 1
    assert AccuracyMatrix.from_plain(again.to_plain()) == again
    assert again.to_plain() == [[[3, 4, 4]]]


def test_matrix_refuses_gaps_and_impossible_counts():
    matrix = AccuracyMatrix().with_row(0, counts_of((1, 2, 4)))
    with pytest.raises(ValueError, match="after task 2 does not continue 1 rows"):
        matrix.with_row(2, counts_of((1, 2, 4)))
    with pytest.raises(ValueError, match="row 1 of an accuracy matrix has 1 tasks"):
        matrix.with_row(1, counts_of((1, 2, 4)))
    with pytest.raises(ValueError, match="task 0 has 0 and 0 right of 0 images"):
        matrix.with_row(0, counts_of((0, 0, 0)))
    with pytest.raises(ValueError, match="task 0 has 5 and 5 right of 4 images"):
        matrix.with_row(0, counts_of((5, 5, 4)))
    with pytest.raises(ValueError, match="top-3"):
        matrix.accuracies(top=3)


def test_a_task_is_evaluated_on_as_many_images_as_before() -> None:
    matrix = AccuracyMatrix().with_row(0, counts_of((1, 2, 4))).with_row(1, counts_of((0, 0, 0), (3, 4, 4)))
    told = (
        "task 0 was evaluated on 4 images after task 0, and on 5 after task 2: the test images of a run stay the same"
    )
    with pytest.raises(ValueError, match=f"^{told}$"):
        matrix.with_row(2, counts_of((1, 2, 5), (0, 0, 0), (3, 4, 4)))
    with pytest.raises(ValueError, match="^task 1 was evaluated on 4 images after task 1, and on 3 after task 2: "):
        matrix.with_row(2, counts_of((0, 0, 0), (1, 2, 3), (3, 4, 4)))
    assert len(matrix.with_row(2, counts_of((1, 2, 4), (0, 0, 0), (3, 4, 9)))) == 3
    assert matrix.with_row(1, counts_of((1, 1, 4), (5, 5, 5))).rows[1][1] == (5, 5, 5), "the row itself may be another"


def test_a_task_without_test_images_was_not_evaluated():
    """An old task's images may be gone; those of the task learnt last may not."""
    matrix = AccuracyMatrix().with_row(0, counts_of((1, 2, 4))).with_row(1, counts_of((0, 0, 0), (3, 4, 4)))
    assert matrix.accuracies() == [[0.25], [None, 0.75]]
    assert (matrix.seen(0), matrix.seen(1), matrix.seen(1, top=5)) == (0.25, None, None)
    assert AccuracyMatrix.from_plain(matrix.to_plain()) == matrix
    with pytest.raises(ValueError, match="task 1 has 0 and 0 right of 0 images"):
        matrix.with_row(1, counts_of((1, 2, 4), (0, 0, 0)))


def test_counts_of_classes_add_up_to_those_of_tasks():
    rows = torch.arange(300)
    logits, labels = uniform(Key(5), rows[:, None], torch.arange(9)), integers(Key(6), rows, 9)
    offsets = (0, 2, 3, 9)
    for protocol in PROTOCOLS:
        by_class = count_by_class(logits, labels, offsets, protocol)
        assert by_class.total.tolist() == labels.bincount(minlength=9).tolist()
        assert by_class.by_task(offsets).to_tensor().equal(count(logits, labels, offsets, protocol).to_tensor())
        one = count_by_class(logits[labels == 4], labels[labels == 4], offsets, protocol)
        assert by_class.hits1[4] == one.hits1.sum(), "of the images of the class alone"
