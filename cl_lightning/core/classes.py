"""Rows of each class: one stable sort of the labels in place of a pass over all of them for each class."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Int64
from torch import Tensor


def rows_by_class(labels: Int64[Tensor, " n"], classes: int) -> tuple[Int64[Tensor, " _"], ...]:
    """Return the rows of each label in [0, ``classes``), ascending; rows with another label are in none.

    The tensors share their storage: copy what is kept in a file.

    >>> [rows.tolist() for rows in rows_by_class(torch.tensor([1, 0, -1, 1]), 3)]
    [[1], [0, 3], []]
    """
    ordered, rows = labels.sort(stable=True)
    bounds = torch.searchsorted(ordered, torch.arange(classes + 1, dtype=ordered.dtype)).tolist()
    return tuple(rows[low:high] for low, high in pairwise(bounds))
