"""What every network offers: stochastic depth drawn for each image and branch."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.models.network import Branch, branch_scales

BRANCHES = [Branch("encoder", 0.0), Branch("encoder", 0.25), Branch("decoder", 0.5)]
MANY = torch.arange(4000)


def test_a_branch_is_skipped_or_scaled_so_that_its_mean_is_one() -> None:
    scales = branch_scales(BRANCHES, Key(0), MANY, frozenset())
    assert scales is not None
    assert [row.unique().tolist() for row in scales] == [[1.0], [0.0, pytest.approx(4 / 3)], [0.0, 2.0]]
    assert scales.mean(dim=1).tolist() == pytest.approx([1, 1, 1], abs=0.05)


def test_each_multiplier_is_a_draw_of_its_own_position_and_slot() -> None:
    scales = branch_scales(BRANCHES, Key(7), torch.tensor([5, 3]), frozenset())
    assert scales is not None
    for slot, branch in enumerate(BRANCHES):
        for column, position in enumerate((5, 3)):
            draw = rng.uniform(Key(7), torch.tensor([position]), torch.tensor([slot])).item()
            expected = 1 / (1 - branch.rate) if draw >= branch.rate else 0.0
            assert scales[slot, column].item() == pytest.approx(expected)


def test_frozen_parts_keep_their_branches_and_move_no_other_draw() -> None:
    free = branch_scales(BRANCHES, Key(0), MANY, frozenset())
    frozen = branch_scales(BRANCHES, Key(0), MANY, frozenset({"encoder"}))
    assert free is not None
    assert frozen is not None
    assert (frozen[:2] == 1).all()
    assert torch.equal(frozen[2], free[2])


@pytest.mark.parametrize(
    ("branches", "frozen"), [([], set()), (BRANCHES[:1], set()), (BRANCHES, {"encoder", "decoder"})]
)
def test_where_nothing_can_be_skipped_nothing_is_drawn(branches: list[Branch], frozen: set[str]) -> None:
    assert branch_scales(branches, Key(0), MANY, frozenset(frozen)) is None
