"""UCIR's losses against loops; the golden vectors of the authors' functions are compared by scripts/reference."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cl_lightning.losses.cosine import imprinted_rows, less_forget, margin_ranking


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LABELS = torch.tensor([0, 3, 1, 4, 2])
"""Old classes are 0, 1 and 2."""


def slow_ranking(cosines: list[list[float]], labels: list[int], num_old: int, negatives: int, margin: float) -> float:
    terms = []
    for row, label in zip(cosines, labels, strict=True):
        if label < num_old:
            rivals = sorted(row[num_old:], reverse=True)[:negatives]
            terms += [max(0.0, margin - row[label] + rival) for rival in rivals]
    return sum(terms) / len(terms) if terms else 0.0


@pytest.mark.parametrize("negatives", [1, 2, 9])
def test_ranking_is_the_mean_over_old_images_and_their_rivals(negatives: int) -> None:
    cosines = draw(5, 5).tanh()
    expected = slow_ranking(cosines.tolist(), LABELS.tolist(), 3, negatives, 0.5)
    assert expected > 0
    assert margin_ranking(cosines, LABELS, 3, negatives, 0.5).item() == pytest.approx(expected, rel=1e-5)


def test_without_an_old_image_there_is_nothing_to_rank() -> None:
    cosines = draw(5, 5).tanh().requires_grad_()
    value = margin_ranking(cosines, torch.tensor([3, 4, 3, 3, 4]), 3, 2, 0.5)
    assert value.item() == 0.0
    assert torch.autograd.grad(value, cosines)[0].eq(0).all()


def test_features_may_grow_and_not_turn() -> None:
    teacher = draw(4, 6)
    assert less_forget(3 * teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    assert less_forget(-teacher, teacher).item() == pytest.approx(2)
    student = draw(4, 6, seed=1)
    cosines = [
        sum(a * b for a, b in zip(s, t, strict=True)) / math.hypot(*s) / math.hypot(*t)
        for s, t in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    assert less_forget(student, teacher).item() == pytest.approx(1 - sum(cosines) / 4, rel=1e-5)


def test_imprinted_rows_point_where_their_class_lies() -> None:
    means, old = draw(2, 6), draw(3, 6, seed=1)
    rows = imprinted_rows(means, old)
    torch.testing.assert_close(torch.cosine_similarity(rows, means), torch.ones(2))
    length = sum(math.hypot(*row) for row in old.tolist()) / 3
    torch.testing.assert_close(rows.norm(dim=1), torch.full((2,), length))


def test_double_precision_stays_and_half_is_raised() -> None:
    for dtype, expected in ((torch.float64, torch.float64), (torch.bfloat16, torch.float32)):
        assert less_forget(draw(4, 6).to(dtype), draw(4, 6).to(dtype)).dtype == expected
        assert margin_ranking(draw(5, 5).to(dtype), LABELS, 3, 2, 0.5).dtype == expected
