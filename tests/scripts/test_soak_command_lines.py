"""Command lines of every option and nasty values: one line or a configuration, never a traceback."""

from __future__ import annotations

import random

import pytest

from cl_lightning.config import compose
from scripts.soak.command_lines import Outcome, outcome, trial, trials


def _wrong(seed: int, count: int) -> list[tuple[list[str], Outcome]]:
    return [(line, came) for line, came in trials(seed, count) if came.kind == "traceback"]


def test_a_few_are_refused_or_accepted() -> None:
    assert _wrong(0, 40) == []


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 6))
def test_hundreds_are_refused_or_accepted(seed: int) -> None:
    assert _wrong(seed, 100) == []


def test_a_seed_makes_the_same_lines_again() -> None:
    drawn = [random.Random(7), random.Random(7)]
    assert [trial(drawn[0]) for _ in range(50)] == [trial(drawn[1]) for _ in range(50)]


def test_what_is_typed_rightly_is_accepted() -> None:
    assert outcome(["method=wa", "seed=1"]) == Outcome("accepted")
    assert outcome(["seed=x"]).kind == "refused"


def test_a_planted_bug_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("planted")

    monkeypatch.setattr(compose, "check", broken)
    came = outcome(["method=wa"])
    assert came.kind == "traceback"
    assert "planted" in came.text
