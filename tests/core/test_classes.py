"""Rows of classes are those that a pass for each class finds."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.core import rng
from cl_lightning.core.classes import rows_by_class
from cl_lightning.core.rng import Key


@pytest.mark.parametrize(("rows", "classes"), [(1, 1), (500, 7), (40, 60), (0, 3)])
def test_they_are_those_of_a_pass_for_each_class(rows: int, classes: int) -> None:
    labels = rng.integers(Key(0), torch.arange(rows), classes + 1) - 1  # some are of none
    found = rows_by_class(labels, classes)
    assert len(found) == classes
    for label in range(classes):
        assert torch.equal(found[label], torch.nonzero(labels == label).flatten())


def test_labels_beyond_the_last_class_are_in_none() -> None:
    assert [rows.tolist() for rows in rows_by_class(torch.tensor([5, 1, 9, 1]), 2)] == [[], [1, 3]]
