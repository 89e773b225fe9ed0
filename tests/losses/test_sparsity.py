"""The sparsity loss of masks against golden numbers and a loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cl_lightning.losses.sparsity import sparsity_loss
from tests.golden import GOLDEN


@pytest.mark.parametrize(("form", "power"), [("size", 1), ("area", 2)])
@pytest.mark.parametrize("batch", [0, 3, 6])
def test_golden_numbers(form: str, power: int, batch: int) -> None:
    golden = np.load(GOLDEN / "der_pruning.npz")
    masks = [torch.ones(3, dtype=torch.float64)]
    masks += [torch.from_numpy(golden[f"batch{batch}/mask{layer}"]) for layer in (1, 2, 3)]
    kernels = [int(size) ** power for size in golden["kernel_sizes"]]
    links = list(zip(kernels, masks[:-1], masks[1:], strict=True))
    expected = golden[f"batch{batch}/sparsity_loss_K_as_kernel_{form}"].item()
    assert sparsity_loss(links).item() == pytest.approx(expected, rel=1e-12)


def test_with_areas_it_is_the_share_of_weights_that_are_left() -> None:
    before, behind = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.0, 1.0])
    links = [(9, torch.ones(1), before), (9, before, behind), (1, behind, torch.ones(4))]
    weights = left = 0
    for area, one, other in links:
        for i in one.tolist():
            for j in other.tolist():
                weights += area
                left += area * i * j
    assert sparsity_loss(links).item() == pytest.approx(left / weights)
    whole = [(area, torch.ones_like(one), torch.ones_like(other)) for area, one, other in links]
    assert sparsity_loss(whole).item() == 1
