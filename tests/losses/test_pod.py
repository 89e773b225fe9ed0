"""Pooled distillation against loops; the golden vectors are compared by scripts/reference."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cl_lightning.losses.pod import pod_spatial


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pooled(image: Tensor) -> list[float]:
    channels, height, width = image.shape
    squares = (image**2).tolist()
    rows = [sum(squares[c][h]) for c in range(channels) for h in range(height)]
    columns = [sum(squares[c][h][w] for h in range(height)) for c in range(channels) for w in range(width)]
    both = rows + columns
    return [value / math.hypot(*both) for value in both]


def test_it_is_the_distance_of_pooled_maps() -> None:
    shapes = ((3, 2, 4, 4), (3, 5, 2, 3))
    ours, theirs = ([draw(seed + k, *shape) for k, shape in enumerate(shapes)] for seed in (0, 10))
    maps = [
        sum(math.dist(pooled(a), pooled(b)) for a, b in zip(mine, others, strict=True)) / 3
        for mine, others in zip(ours, theirs, strict=True)
    ]
    assert pod_spatial(ours, theirs).item() == pytest.approx(sum(maps) / 2, rel=1e-5)


def test_equal_maps_are_at_rest() -> None:
    same = draw(0, 2, 3, 4, 4).requires_grad_()
    loss = pod_spatial([same], [same.detach().clone()])
    assert loss.item() == 0
    assert torch.autograd.grad(loss, same)[0].eq(0).all()


def test_activation_may_move_along_a_row_that_is_whole() -> None:
    """Rows and columns keep their sums when two of them are exchanged with their crossings."""
    one, other = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    one[0, 0] = torch.eye(2)
    other[0, 0] = torch.eye(2).flip(1)
    assert pod_spatial([one], [other]).item() == pytest.approx(0, abs=1e-6)
