"""Annealed masks of channels, against golden numbers and slow loops."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from cl_lightning.models.channel_masks import annealed_mask, open_channels, sharpness_of
from scripts.check_reference import main as check_reference
from tests.golden import GOLDEN


def test_golden_numbers() -> None:
    assert check_reference([str(GOLDEN / "der_pruning.npz")]) == 0


def test_a_mask_and_its_gradient_against_a_loop() -> None:
    logits = torch.tensor([-2.0, -0.1, 0.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    upstream = torch.tensor([1.0, -2.0, 0.5, 3.0, -1.0], dtype=torch.float64)
    mask = annealed_mask(logits, torch.tensor(7.0, dtype=torch.float64))
    (gradient,) = torch.autograd.grad((mask * upstream).sum(), logits)
    for e, m, g, u in zip(logits.tolist(), mask.tolist(), gradient.tolist(), upstream.tolist(), strict=True):
        assert m == pytest.approx(1 / (1 + math.exp(-7 * e)), rel=1e-12)
        once = 1 / (1 + math.exp(-e))
        assert g == pytest.approx(u * once * (1 - once), rel=1e-12), "as if s were 1"


def test_it_is_the_paper_s_quotient_where_that_can_be_computed() -> None:
    golden = np.load(GOLDEN / "der_pruning.npz")
    logits = torch.from_numpy(golden["e1"]).requires_grad_()
    plain = torch.sigmoid(golden["s_of_batch"][3].item() * logits)
    upstream = torch.from_numpy(golden["upstream_grad_mask1"])
    (of_plain,) = torch.autograd.grad((plain * upstream).sum(), logits)
    sharpness = torch.tensor(golden["s_of_batch"][3])
    (ours,) = torch.autograd.grad((annealed_mask(logits, sharpness) * upstream).sum(), logits)
    torch.testing.assert_close(ours, of_plain * torch.from_numpy(golden["batch3/compensation1"]))


@pytest.mark.parametrize("s_max", [10.0, 100.0, 400.0, 1e6])
def test_nothing_is_infinite_at_any_sharpness_in_single_precision(s_max: float) -> None:
    logits = torch.linspace(-6, 6, 121).requires_grad_()
    for batch in range(20):
        mask = annealed_mask(logits, torch.tensor(sharpness_of(batch, 20, s_max)))
        (gradient,) = torch.autograd.grad(mask.sum(), logits)
        assert mask.isfinite().all()
        assert gradient.isfinite().all()
        assert (gradient > 2e-3).all(), "a closed channel can come back, an open one can be closed"


def test_sharpness_rises_within_an_epoch() -> None:
    rise = [sharpness_of(batch, 5, 100.0) for batch in range(5)]
    assert rise[0] == pytest.approx(0.01)
    assert rise[-1] == pytest.approx(100.0)
    steps = [b - a for a, b in pairwise(rise)]
    assert steps == pytest.approx([steps[0]] * 4)
    assert sharpness_of(0, 1, 100.0) == pytest.approx(100.0), "a single batch is the last one"


def test_open_channels_and_one_at_least() -> None:
    assert open_channels(torch.tensor([0.0, -1.0, 2.0, -1e-9])) == [0, 2]
    assert open_channels(torch.tensor([-3.0, -1.0, -2.0])) == [1]
