"""Mean and spread of repeated measurements against numbers worked out by hand and t tables."""

from __future__ import annotations

import math

import pytest

from cl_lightning.metrics.spread import spread


def test_mean_deviation_and_number() -> None:
    found = spread([70.0, 72.0, 77.0])
    assert (found.mean, found.count) == (73.0, 3)
    assert found.std == pytest.approx(math.sqrt((9 + 1 + 16) / 2))


def test_a_single_value_has_no_spread() -> None:
    found = spread([70.0])
    assert (found.mean, found.std, found.half_width, found.count) == (70.0, None, None, 1)


@pytest.mark.parametrize(("count", "quantile"), [(2, 12.706), (3, 4.303), (5, 2.776), (10, 2.262), (31, 2.042)])
def test_intervals_are_student_s(count: int, quantile: float) -> None:
    """97.5 % quantiles of printed tables, for one degree of freedom less than there are values."""
    values = [float(value) for value in range(count)]
    found = spread(values)
    assert found.std is not None
    assert found.half_width == pytest.approx(quantile * found.std / math.sqrt(count), rel=5e-4)


def test_equal_values_have_an_interval_of_nothing() -> None:
    assert spread([3.0, 3.0, 3.0]).half_width == 0.0


def test_of_no_values_there_is_no_mean() -> None:
    with pytest.raises(ValueError, match="at least one"):
        spread([])
