"""A classifier whose rows are there before their classes."""

from __future__ import annotations

import torch

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.models.allocated_head import AllocatedLinear

VECTORS = rng.normal(Key(1), torch.arange(6)).view(2, 3)


def made(outputs: int) -> AllocatedLinear:
    with rng.torch_seeded(Key(0)):
        return AllocatedLinear(3, outputs)


def test_growth_shows_rows_that_were_there() -> None:
    head = made(5)
    everything = head.all_scores(VECTORS)
    assert head(VECTORS).shape == (2, 0)
    for seen in (2, 5):
        head.grow(seen - head.seen)
        assert torch.equal(head(VECTORS), everything[:, :seen])
    assert head.structure() == {"head": "allocated", "outputs": 5}


def test_classes_that_were_not_foreseen_get_new_rows() -> None:
    head = made(2)
    head.grow(2)
    before = head(VECTORS)
    head.grow(3)
    assert torch.equal(head(VECTORS)[:, :2], before)
    assert head(VECTORS).shape == (2, 5)
    assert head.structure()["outputs"] == 5
    assert {name: len(p) for name, p in head.named_parameters()} == {"rows.weight": 5, "rows.bias": 5}
