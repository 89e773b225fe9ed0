"""Runs of 93a97df are gone on with, learnt from, predicted by, exported, bundled, compared, reported as they were."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compatibility.cases import CASES
from tests.compatibility.kept import RUNS, deviations, recorded, unpack
from tests.compatibility.operations import OPERATIONS, carry_out

pytestmark = pytest.mark.slow

SLOW = ("resume", "learn", "export", "report")
DRAWN = ("finished",)
"""Whose report is made in `make test`: it has every figure, others show the same with other numbers."""
LEARNT_FROM_AGAIN = ("image_folder", "multirun")
"""As a bundle, the first is learnt from in `make test` too."""


def _pairs() -> Iterator[Any]:
    for name, case in CASES.items():
        for operation in case.does:
            often = operation != "report" or name in DRAWN
            often &= operation != "learn" or name not in LEARNT_FROM_AGAIN
            mark = pytest.mark.slow if often else pytest.mark.long
            marks = [mark] if operation in SLOW else []
            yield pytest.param(name, operation, marks=marks, id=f"{name}-{operation}")


@pytest.mark.parametrize(("name", "operation"), list(_pairs()))
def test_what_comes_of_it_is_what_came_of_it(name: str, operation: str, place: Path) -> None:
    unpack(name, place)
    found = deviations(recorded(name, operation), carry_out(operation, name, CASES[name]))
    assert not found, "\n".join([f"{len(found)} deviations", *found[:20]])


def test_nothing_that_is_kept_is_left_out() -> None:
    assert {file.name.partition(".")[0] for file in RUNS.iterdir()} == set(CASES)
    assert {operation for case in CASES.values() for operation in case.does} == set(OPERATIONS)
