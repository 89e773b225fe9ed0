"""The control of dropped tokens against its formula."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.losses.drop_control import drop_control


def masks(*kept_of_ten: int) -> list[torch.Tensor]:
    """A layer for each number: two images of ten tokens that keep so many each."""
    return [torch.cat([torch.ones(2, k), torch.zeros(2, 10 - k)], dim=1) for k in kept_of_ten]


@pytest.mark.parametrize(("kept", "expected"), [((9,), 0.0), ((10,), 0.01), ((8,), 0.01), ((10, 9, 6), 0.1 / 3)])
def test_it_is_the_mean_over_layers_of_squared_distances(kept: tuple[int, ...], expected: float) -> None:
    assert drop_control(masks(*kept), 0.9).item() == pytest.approx(expected, abs=1e-6)


def test_images_are_averaged_before_the_square() -> None:
    uneven = torch.stack([torch.ones(10), torch.cat([torch.ones(8), torch.zeros(2)])])
    assert drop_control([uneven], 0.9).item() == pytest.approx(0.0, abs=1e-6)
    assert drop_control([uneven], keep=0.5).item() == pytest.approx(0.16, abs=1e-6)


def test_masks_that_keep_all_are_pulled_down_and_those_that_drop_too_much_up() -> None:
    for kept, sign in ((10, 1.0), (5, -1.0)):
        mask = masks(kept)[0].requires_grad_()
        drop_control([mask], 0.9).backward()
        assert mask.grad is not None
        assert (mask.grad.sign() == sign).all()
