"""Three forms of NCA against loops; the golden vectors are compared by scripts/reference."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cl_lightning.losses.nca import FORMS, nca

LABELS = torch.tensor([0, 2, 1, 3])
SCALE = torch.tensor([1.7])


def similarities() -> Tensor:
    return -torch.rand(4, 4, generator=torch.Generator().manual_seed(0)) * 4


def of_image(scores: list[float], label: int, margin: float, form: str) -> float:
    others = [score for index, score in enumerate(scores) if index != label]
    if form == "public":
        largest = max(scores)
        return math.log(1 + sum(math.exp(score - largest) for score in others)) - (scores[label] - largest)
    loss = math.log(sum(math.exp(score) for score in others)) - scores[label] + 1.7 * margin
    return max(0.0, loss) if form == "paper" else loss


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("margin", [0.0, 0.6, 2.0])
def test_each_form(form: str, margin: float) -> None:
    scores = SCALE * similarities()
    expected = [of_image(row, label, margin, form) for row, label in zip(scores.tolist(), LABELS.tolist(), strict=True)]
    assert nca(scores, LABELS, SCALE, margin, form).item() == pytest.approx(sum(expected) / 4, rel=1e-5)


def gradient(form: str, margin: float) -> Tensor:
    given = similarities().requires_grad_()
    return torch.autograd.grad(nca(SCALE * given, LABELS, SCALE, margin, form), given)[0]


def test_the_margin_acts_only_through_the_hinge() -> None:
    for form in ("public", "no_hinge"):
        torch.testing.assert_close(gradient(form, 0.0), gradient(form, 2.0))
    easy = torch.tensor([[0.0, -4.0], [-4.0, 0.0]]).requires_grad_()
    labels = torch.tensor([0, 1])
    assert torch.autograd.grad(nca(SCALE * easy, labels, SCALE, 0.6, "paper"), easy)[0].eq(0).all()
    assert torch.autograd.grad(nca(SCALE * easy, labels, SCALE, 4.1, "paper"), easy)[0].ne(0).all()


def test_double_precision_stays() -> None:
    scores = similarities().double()
    assert all(nca(scores, LABELS, SCALE, 0.6, form).dtype == torch.float64 for form in FORMS)
