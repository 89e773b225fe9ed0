"""Golden vectors of HAT: two published tasks are ours step by step; a wrong number is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.reference.check_vectors import compare
from scripts.reference.difference import Verdict
from scripts.reference.hat_vectors import rows
from scripts.reference.vectors import VectorFile
from tests.golden import GOLDEN

FILE = GOLDEN / "hat.npz"


def test_published_epochs_are_ours() -> None:
    found = compare(VectorFile(FILE))
    assert found.title == "HAT"
    assert found.passed
    assert found.counts[Verdict.EQUAL] == 200
    unchecked = [row.entry for row in found.rows if row.verdict is Verdict.UNCHECKED]
    assert all("/end/params/last." in entry for entry in unchecked), "heads of other tasks"


def test_in_float32_a_small_largest_scale_is_followed_and_the_published_one_is_another_training() -> None:
    found = list(rows(VectorFile(FILE), torch.float32))
    small = [row for row in found if row.entry.startswith("s_max8/")]
    large = [row for row in found if row.entry.startswith("s_max400/")]
    assert len(small) == len(large) == 100
    assert not any(row.verdict.failed for row in small)
    assert any(row.verdict.failed and "/efc2." in row.entry for row in large)


@pytest.mark.parametrize(
    "entry",
    [
        "s_max8/task1/step1/grad_applied/fc2.weight",
        "s_max8/task1/step0/grad_applied/efc1.weight",
        "s_max400/task0/regulariser_of_step",
        "s_max8/task0/cumulative_mask1",
        "s_max8/task1/eval_logits_own_head",
    ],
)
def test_a_wrong_number_is_found(entry: str, tmp_path: Path) -> None:
    with np.load(FILE, allow_pickle=False) as archive:
        arrays = {each: archive[each] for each in archive.files}
    arrays[entry] = arrays[entry] + 1e-4
    np.savez(tmp_path / "f.npz", **arrays)
    found = compare(VectorFile(tmp_path / "f.npz"))
    assert [row.entry for row in found.rows if row.verdict.failed] == [entry]
