"""DKT's two heads: what a merge keeps, draws anew and loses."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.core import rng
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.duplex_head import DuplexHead

DIM, SIZES = 6, [3, 2, 4]
EMBEDDINGS = rng.normal(Key(1), torch.arange(5 * DIM)).view(5, 1, DIM).double()


def head(merge: str, sizes: list[int] = SIZES[:2]) -> DuplexHead:
    """Grown, and moved off the start of its norms."""
    made = DuplexHead(DIM, merge=merge)
    with torch_seeded(Key(2)):
        for size in sizes:
            made.grow(size)
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.7)
    return made.double()


def grown(made: DuplexHead, size: int) -> DuplexHead:
    with torch_seeded(Key(3)):
        made.grow(size)
    return made.double()


@pytest.mark.parametrize("merge", ["published", "exact"])
def test_scores_stand_in_order_of_arrival_and_parts_are_stable_and_plastic(merge: str) -> None:
    made = head(merge)
    assert made.stable is not None
    assert made.plastic is not None
    expected = torch.cat([made.stable(EMBEDDINGS[:, 0]), made.plastic(EMBEDDINGS[:, 0])], dim=1)
    assert torch.equal(made(EMBEDDINGS), expected)
    assert [p.shape[0] for p in made.old_parameters()] == [DIM, DIM, 3, 3]
    assert [p.shape[0] for p in made.new_parameters()] == [DIM, DIM, 2, 2]
    assert made.sizes() == [3, 2]
    assert made.structure() == {"kind": "duplex", "merge": merge}


def test_the_first_task_has_one_head_that_learns() -> None:
    made = head("exact", [3])
    assert made(EMBEDDINGS).shape == (5, 3)
    assert made.old_parameters() == []
    assert len(made.new_parameters()) == 4


def test_an_exact_merge_moves_no_score() -> None:
    made = head("exact")
    for size in (4, 1):
        before = made(EMBEDDINGS).detach()
        made = grown(made, size)
        torch.testing.assert_close(made(EMBEDDINGS)[:, : before.shape[1]], before, atol=1e-12, rtol=1e-12)
    assert made.sizes() == [3, 2, 4, 1]


def test_a_published_merge_keeps_rows_and_the_stable_norm_alone() -> None:
    made = head("published")
    before = {name: value.clone() for name, value in made.state_dict().items()}
    after = grown(made, 4).state_dict()
    rows = torch.cat([before["stable.head.weight"], before["plastic.head.weight"]])
    assert torch.equal(after["stable.head.weight"], rows)
    for name in ("stable.norm.weight", "stable.norm.bias"):
        assert torch.equal(after[name], before[name])
    biases = torch.cat([before["stable.head.bias"], before["plastic.head.bias"]])
    assert (after["stable.head.bias"] != biases).all()
    assert (after["stable.head.bias"].abs() <= DIM**-0.5).all()
    assert after["plastic.head.weight"].shape == (4, DIM)
    assert torch.equal(after["plastic.norm.weight"], torch.ones(DIM).double())
