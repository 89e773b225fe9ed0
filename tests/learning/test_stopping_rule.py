"""A better value, and an end where none has come for long enough."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.learning.stopping_rule import StoppingRule, StoppingState


def checked(rule: StoppingRule, *values: float) -> StoppingState:
    state = StoppingState()
    for value in values:
        state.add(value, rule, lambda value=value: {"w": torch.tensor(value)})  # type: ignore[misc]
    return state


@pytest.mark.parametrize(
    ("rule", "values", "best", "waited"),
    [
        (StoppingRule("accuracy", 2), (0.5, 0.7, 0.7, 0.6), 2, 2),
        (StoppingRule("accuracy", 2), (0.5, 0.4, 0.6), 3, 0),
        (StoppingRule("accuracy", 2, 0.1), (0.5, 0.55, 0.61), 3, 0),
        (StoppingRule("accuracy", 2, 0.1), (0.5, 0.55, 0.59), 1, 2),
        (StoppingRule("loss", 2), (0.5, 0.7, 0.4, 0.4), 3, 1),
        (StoppingRule("loss", 2, 0.2), (0.5, 0.4, 0.2), 3, 0),
    ],
)
def test_the_best_is_kept_and_the_checks_since_are_counted(
    rule: StoppingRule, values: tuple[float, ...], best: int, waited: int
) -> None:
    state = checked(rule, *values)
    assert (state.checks, state.best_check, state.waited) == (len(values), best, waited)
    assert state.best == values[best - 1]
    assert state.latest == values[-1]
    assert state.weights["w"].item() == pytest.approx(values[best - 1])


def test_the_first_check_is_the_best_so_far_whatever_it_is() -> None:
    assert checked(StoppingRule("accuracy", 1, 0.5), 0.0).best_check == 1


def test_it_is_kept_as_plain_values() -> None:
    state = checked(StoppingRule("loss", 3), 2.0, 1.0, 3.0)
    assert StoppingState.from_plain(state.to_plain()) == state
