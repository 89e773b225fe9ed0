"""What a report shows of a run beside its numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cl_lightning.config.compose import compose_typed
from cl_lightning.memory.rehearsal import Budget, RehearsalMemory
from cl_lightning.run import report_data

ERRATUM = ["run_dir=unused", "method=dytox", "data=cifar100_10steps"]


@pytest.mark.parametrize(
    ("overrides", "first"),
    [
        (["data.order=3", "seed=7", "report.attention=true"], 91.9),
        (["epochs_scale=0.5"], None),
        (["data=digits"], None),
    ],
)
def test_a_published_curve_is_shown_beside_its_own_protocol_alone(overrides: list[str], first: float | None) -> None:
    found = report_data.published_curve(compose_typed([*ERRATUM, *overrides]))
    assert (None if found is None else found.accuracy[0]) == first


def test_large_exemplars_are_made_small_and_small_ones_stay() -> None:
    small = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
    assert report_data._small(small) is small
    large = np.zeros((1, 96, 192, 3), dtype=np.uint8)
    large[:, :48] = 200
    found = report_data._small(large)
    assert found.shape == (1, 24, 48, 3)
    assert (found[:, :12] == 200).all()
    assert (found[:, 12:] == 0).all()


def test_an_exemplar_in_several_lists_is_shown_once() -> None:
    lists = [{3: torch.tensor([5, 7, 9])}, {3: torch.tensor([9, 5, 8])}]
    memory = RehearsalMemory(Budget("total", 6), "per_replica", 2).update(lists, 1)
    assert {label: rows.tolist() for label, rows in report_data._different(memory).items()} == {3: [5, 7, 9, 8]}
