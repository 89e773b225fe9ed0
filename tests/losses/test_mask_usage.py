"""The capacity that masks take: only of units that older tasks leave."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.losses.mask_usage import mask_usage

MASKS = torch.tensor([0.0, 0.2, 0.6, 1.0])


def test_in_the_first_task_it_is_the_mean_mask() -> None:
    assert mask_usage(MASKS, torch.zeros(4)).item() == pytest.approx(0.45)


def test_used_units_cost_nothing() -> None:
    used = torch.tensor([0.0, 0.5, 0.0, 1.0])
    assert mask_usage(MASKS, used).item() == pytest.approx((0.2 * 0.5 + 0.6) / 2.5)


def test_where_all_units_are_used_there_is_nothing_to_take() -> None:
    masks = MASKS.clone().requires_grad_()
    usage = mask_usage(masks, torch.ones(4))
    usage.backward()
    assert usage.item() == 0
    assert masks.grad is not None
    assert not masks.grad.any()
