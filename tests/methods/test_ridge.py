"""Ridge regression from sums: against solving every system, and where matrices are singular."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.methods import ridge
from cl_lightning.methods.ridge import LAMBDAS

CLASSES = 3


def drawn(count: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features around a mean for each class, and labels."""
    stream = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    means = torch.randn(CLASSES, width, generator=torch.Generator().manual_seed(9))
    return means[labels] + 6 * torch.randn(count, width, generator=stream), labels


def sums(features: Tensor, labels: Tensor, classes: int = CLASSES) -> ridge.Sums:
    return ridge.sums_of(features, labels, classes, features.shape[1], lambda rows: rows)


def literally(fit: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor]) -> list[float]:
    """A system for each lambda, and the error image by image."""
    (h, y), (h_held, y_held) = fit, held
    h, h_held = h.double(), h_held.double()
    targets, wanted = F.one_hot(y, CLASSES).double(), F.one_hot(y_held, CLASSES).double()
    losses = []
    for value in LAMBDAS:
        a = torch.linalg.solve(h.T @ h + value * torch.eye(h.shape[1], dtype=torch.float64), h.T @ targets)
        losses.append(((h_held @ a - wanted) ** 2).mean().item())
    return losses


@pytest.mark.parametrize(("count", "width"), [(60, 12), (13, 40)])
def test_one_eigendecomposition_is_as_good_as_seventeen_systems(count: int, width: int) -> None:
    fit, held = drawn(count, width), drawn(21, width, seed=1)
    expected = literally(fit, held)
    primal = ridge.losses_by_sums(sums(*fit), sums(*held))
    dual = ridge.losses_by_rows(fit[0].double(), fit[1], held[0].double(), held[1], CLASSES)
    assert primal[6:] == pytest.approx(expected[6:], rel=1e-7)  # below, a singular matrix rounds in any solver
    assert dual[6:] == pytest.approx(expected[6:], rel=1e-7)
    assert ridge.best_lambda(primal) == ridge.best_lambda(dual) == LAMBDAS[expected.index(min(expected))]


def test_repeated_and_missing_images_make_no_small_lambda_explode() -> None:
    """Eigenvalues that are zero come out as small negative numbers."""
    features, labels = drawn(8, 30)
    fit, held = (features.repeat(4, 1), labels.repeat(4)), drawn(20, 30, seed=1)
    by_sums = ridge.losses_by_sums(sums(*fit), sums(*held))
    by_rows = ridge.losses_by_rows(fit[0].double(), fit[1], held[0].double(), held[1], CLASSES)
    assert max(by_rows) < 100
    assert by_sums[6:] == pytest.approx(by_rows[6:], rel=1e-6)


def test_the_smallest_of_equally_good_values_is_taken() -> None:
    assert ridge.best_lambda([3.0] * 17) == 1e-8
    assert ridge.best_lambda([3.0] * 4 + [1.0, 2.0] + [1.0] * 11) == 1e-4


def test_sums_do_not_depend_on_parts_or_order() -> None:
    features, labels = drawn(3000, 7)
    whole, order = sums(features, labels), torch.randperm(3000, generator=torch.Generator().manual_seed(3))
    shuffled = sums(features[order], labels[order])
    parts = sums(features[:100], labels[:100]) + sums(features[100:], labels[100:])
    for other in (shuffled, parts):
        torch.testing.assert_close(other.gram, whole.gram, rtol=1e-12, atol=1e-9)
        torch.testing.assert_close(other.cross, whole.cross, rtol=1e-12, atol=1e-9)
        assert other.count == whole.count == 3000
    assert torch.equal(whole.gram, whole.gram.T)
    torch.testing.assert_close(whole.cross[1], features[labels == 1].double().sum(dim=0))


def test_classes_are_added_as_they_come() -> None:
    features, labels = drawn(30, 5)
    later = ridge.no_sums(5) + sums(features, labels, 4) + sums(features, labels + 2, 6)
    assert later.cross.shape == (6, 5)
    expected = features[(labels == 2) | (labels == 0)].double().sum(dim=0)
    torch.testing.assert_close(later.cross[2], expected)


def test_the_rows_solve_the_system() -> None:
    of_all = sums(*drawn(50, 9))
    rows = ridge.solved(of_all, 0.5)
    system = of_all.gram + 0.5 * torch.eye(9, dtype=torch.float64)
    torch.testing.assert_close(system @ rows.T, of_all.cross.T)


def test_a_matrix_that_rounding_left_indefinite_is_solved_too() -> None:
    gram = torch.diag(torch.tensor([4.0, -1e-3, 1.0], dtype=torch.float64))
    indefinite = ridge.Sums(gram, torch.tensor([[8.0, 0.0, 3.0]], dtype=torch.float64), 1)
    expected = torch.tensor([[2.0, 0.0, 3.0]], dtype=torch.float64)
    torch.testing.assert_close(ridge.solved(indefinite, 1e-4), expected, rtol=1e-3, atol=0)


def test_half_of_a_symmetric_matrix_is_kept() -> None:
    gram = sums(*drawn(20, 6)).gram
    half = ridge.upper_triangle(gram)
    assert half.shape == (21,)
    assert torch.equal(ridge.from_upper_triangle(half, 6), gram)
