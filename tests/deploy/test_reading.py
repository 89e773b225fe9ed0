"""Images are read in order, in batches; what cannot be read is told apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cl_lightning.core.errors import UnreadableImageError
from cl_lightning.deploy.reading import read_batches


def read(number: int) -> Tensor:
    if number in (2, 5):
        raise UnreadableImageError(f"{number}.png", ": it is torn")
    return torch.full((1, 2, 2), number, dtype=torch.uint8)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_in_order_whatever_the_size(size: int) -> None:
    batches = list(read_batches(read, range(7), size))
    assert [number for _, own, _ in batches for number in own] == [0, 1, 3, 4, 6]
    assert [int(image[0, 0, 0]) for images, own, _ in batches if own for image in images] == [0, 1, 3, 4, 6]
    assert [each for *_, unreadable in batches for each in unreadable] == [(2, "it is torn"), (5, "it is torn")]
    assert len(batches) == -(-7 // size)


def test_nothing_is_no_batch() -> None:
    assert list(read_batches(read, [], 4)) == []
