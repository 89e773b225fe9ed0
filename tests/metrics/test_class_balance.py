"""Class-balanced accuracy against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.core.rng import Key, integers
from cl_lightning.metrics.accuracy import AccuracyMatrix, Counts
from cl_lightning.metrics.class_balance import ClassCounts, macro_accuracy

MATRIX = AccuracyMatrix((((40, 40, 50),), ((30, 40, 50), (9, 10, 10))))
COUNTS = ClassCounts((((30, 30), (10, 20)), ((30, 30), (0, 20), (9, 10))))


def test_every_class_weighs_the_same() -> None:
    assert macro_accuracy([(9, 10), (0, 90)]) == pytest.approx(0.45)
    assert macro_accuracy([(1, 3), (1, 7), (2, 3)]) == pytest.approx((1 + 1 / 7) / 3)
    assert macro_accuracy([(4, 4)]) == 1.0


@pytest.mark.parametrize("images", [1, 3, 7, 50, 100])
def test_with_as_many_images_of_each_class_it_is_the_accuracy_to_the_last_bit(images: int) -> None:
    right = integers(Key(images), torch.arange(31), images + 1).tolist()
    assert macro_accuracy([(each, images) for each in right]) == sum(right) / (31 * images)


def test_a_class_without_images_leaves_no_mean() -> None:
    assert macro_accuracy([(1, 2), (0, 0)]) is None
    assert macro_accuracy([]) is None


def test_rows_come_one_after_the_other_and_one_may_be_repeated() -> None:
    counts = ClassCounts().with_row(0, Counts(torch.tensor([1, 2]), torch.tensor([2, 2]), torch.tensor([2, 2])))
    assert counts.rows == (((1, 2), (2, 2)),)
    assert counts.with_row(0, Counts.zeros(2)).rows == (((0, 0), (0, 0)),)
    late = ClassCounts().with_row(2, Counts(torch.tensor([1]), torch.tensor([1]), torch.tensor([4])))
    assert late.rows == (None, None, ((1, 4),)), "a run that an earlier version had begun"
    assert [late.macro(after) for after in range(4)] == [None, None, 0.25, None]
    assert ClassCounts.from_plain(late.to_plain()) == late


def test_counts_of_classes_add_up_to_those_of_their_tasks() -> None:
    COUNTS.check(MATRIX, [2, 1, 4])
    ClassCounts((None, COUNTS.rows[1])).check(MATRIX, [2, 1])
    told = "the counts of classes after task 1 do not add up to those of its tasks"
    for row in (((30, 30), (0, 20), (8, 10)), ((30, 30), (0, 20)), ((30, 30), (0, 20), (9, 10), (0, 1)), ()):
        with pytest.raises(ValueError, match=f"^{told}$"):
            ClassCounts((None, row)).check(MATRIX, [2, 1])
    with pytest.raises(ValueError, match="after task 2"):
        ClassCounts((*COUNTS.rows, COUNTS.rows[1])).check(MATRIX, [2, 1])
    with pytest.raises(ValueError, match="after task 0 a class has more right answers than images"):
        ClassCounts((((3, 2),),))
