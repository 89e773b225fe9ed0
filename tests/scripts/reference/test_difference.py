"""One difference between what is expected and what is found."""

from __future__ import annotations

import pytest
import torch

from scripts.reference.difference import Verdict, difference


def test_a_difference_in_numbers() -> None:
    row = difference("a", torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]), 0.5)
    assert (row.verdict, row.absolute, row.relative, row.bound) == (Verdict.EQUAL, 0.5, 0.2, 0.5)
    assert difference("a", torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5]), 0.49).verdict is Verdict.DIFFERS
    assert difference("a", torch.tensor(1e-9), torch.tensor(0.0), 1e-5).relative is None
    assert difference("a", torch.empty(0), torch.empty(0), 0.0).verdict is Verdict.EQUAL
    assert difference("a", None, torch.empty(0), 0.0).verdict is Verdict.EQUAL


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_differs_even_from_itself(value: float) -> None:
    tensor = torch.tensor([value])
    for bound in (1.0, float("inf"), float("nan")):
        assert difference("a", tensor, tensor, bound).verdict is Verdict.DIFFERS
        assert difference("a", torch.zeros(1), tensor, bound).verdict is Verdict.DIFFERS
        assert difference("a", tensor, torch.zeros(1), bound).verdict is Verdict.DIFFERS
