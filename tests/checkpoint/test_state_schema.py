"""The form of the state in a bundle: a finished run's, more strictly than a checkpoint's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cl_lightning.checkpoint.state_schema import array, state_check
from cl_lightning.metrics.confusion import BINS
from tests.checkpoint.a_state import changed, state, within


def test_the_state_in_a_bundle_is_that_of_a_finished_run() -> None:
    state_check(3, 2)(state(), "it")
    with pytest.raises(ValueError, match="it.cursor.items is 1, not 0"):
        state_check(3, 2)(within(2), "it")
    with pytest.raises(ValueError, match=r"it.records has 1 entries, not 2"):
        state_check(3, 2)(state(1), "it")


@pytest.mark.parametrize(
    ("path", "value", "line"),
    [
        ("later", 1, "it has 'later', which nothing reads"),
        ("identity.later", 1, "it.identity has 'later', which nothing reads"),
        ("network.weights.head", torch.tensor([torch.nan]), "it.network.weights.'head' holds numbers that are not fin"),
        ("answers.confusion", torch.zeros(2, 2, dtype=torch.int64), "it.answers.confusion is a tensor (2, 2) torch.in"),
        ("class_counts", {"later": {}}, "a key of it.class_counts is 'later', not class_incremental"),
        ("class_counts.class_incremental.linear", [[[1]]], "it.class_counts.'class_incremental'.'linear'[0][0] has 1 "),
        ("answers.reliability", torch.zeros(2, BINS, 3), "it.answers.reliability is a tensor (2, "),
    ],
)
def test_more_strictly_than_a_checkpoint(path: str, value: Any, line: str) -> None:
    with pytest.raises(ValueError) as refused:
        state_check(3, 2)(changed(state(), path, value), "it")
    assert str(refused.value).startswith(line)


def test_a_tensor_has_storage_for_each_of_its_numbers() -> None:
    array(torch.zeros(2, 3), "it")
    array(torch.zeros(4, 3).t(), "it")
    for odd in (torch.zeros(1).expand(1000), torch.zeros(3).to_sparse(), torch.empty(3, device="meta")):
        with pytest.raises(ValueError, match="it is a tensor of another kind than this program saves"):
            array(odd, "it")
