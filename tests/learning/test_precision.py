"""When half precision is said to be slow."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.learning import precision
from cl_lightning.learning.precision import slow_half_precision


def _machine(monkeypatch: pytest.MonkeyPatch, half: float, single: float) -> None:
    taken = {torch.bfloat16: half, torch.float32: single}
    monkeypatch.setattr(precision, "product_seconds", taken.__getitem__)


def test_a_cpu_without_units_for_it_is_reported_with_what_it_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, half=0.0244, single=0.002)
    (line,) = slow_half_precision("bf16-mixed", on_gpu=False)
    assert "12.2 times as long" in line
    assert line.endswith("trainer.precision=32-true is faster here")


@pytest.mark.parametrize(("half", "asked", "on_gpu"), [
    (0.001, "bf16-mixed", False), (0.0028, "bf16-mixed", False), (0.1, "32-true", False), (0.1, "bf16-mixed", True),
])  # fmt: skip
def test_nothing_is_reported_where_it_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, half: float, asked: str, on_gpu: bool
) -> None:
    _machine(monkeypatch, half, single=0.002)
    assert slow_half_precision(asked, on_gpu=on_gpu) == []


def test_the_best_of_some_products_is_timed() -> None:
    """By a clock that says when: one try takes 5 seconds, one 2, one 4."""
    times = iter([0.0, 5.0, 5.0, 7.0, 10.0, 14.0])
    assert precision.product_seconds(torch.float32, lambda: next(times)) == 2.0
