"""Reconstruction of patches: their order, their normalisation, and the error by loops."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.losses.reconstruction import normalised, patches_of, reconstruction_errors

IMAGES = rng.normal(Key(0), torch.arange(2 * 3 * 64)).view(2, 3, 8, 8).double()
MASKED = torch.tensor([[True, False, True, True], [False, True, False, False]])


def test_patches_are_rows_from_the_top_left() -> None:
    patches = patches_of(IMAGES, 4)
    assert patches.shape == (2, 4, 48)
    for index, (top, left) in enumerate(((0, 0), (0, 4), (4, 0), (4, 4))):
        expected = IMAGES[:, :, top : top + 4, left : left + 4].flatten(1)
        assert torch.equal(patches[:, index], expected)


def test_each_patch_has_mean_zero_and_unbiased_variance_one() -> None:
    found = normalised(patches_of(100 * IMAGES, 4))
    torch.testing.assert_close(found.mean(dim=-1), torch.zeros(2, 4).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(found.var(dim=-1, unbiased=True), torch.ones(2, 4).double(), rtol=0, atol=1e-8)
    assert torch.equal(normalised(torch.full((1, 1, 48), 3.0)), torch.zeros(1, 1, 48)), "one colour"
    assert torch.equal(normalised(torch.full((1, 1, 1), 3.0)), torch.zeros(1, 1, 1)), "one value"


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_errors_by_loops(reduction: str) -> None:
    predicted = rng.normal(Key(1), torch.arange(2 * 4 * 48)).view(2, 4, 48).double()
    target, found = normalised(patches_of(IMAGES, 4)), reconstruction_errors(predicted, MASKED, IMAGES, reduction)
    for image in range(2):
        errors = []
        for patch in range(4):
            if MASKED[image, patch]:
                squares = [(predicted[image, patch, k] - target[image, patch, k]) ** 2 for k in range(48)]
                errors.append(sum(squares) / (48 if reduction == "mean" else 1))
        assert float(found[image]) == pytest.approx(float(sum(errors) / len(errors)), rel=1e-12)
    assert torch.equal(reconstruction_errors(target, MASKED, IMAGES, reduction), torch.zeros(2).double())


def test_patches_that_are_seen_do_not_count() -> None:
    predicted = torch.zeros(2, 4, 48).double().requires_grad_()
    reconstruction_errors(predicted, MASKED, IMAGES).sum().backward()
    assert predicted.grad is not None
    assert torch.equal(predicted.grad.abs().sum(dim=-1) > 0, MASKED)
