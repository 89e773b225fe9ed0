"""Golden vectors of End-to-End: a wrong one is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.reference.check_vectors import compare
from scripts.reference.difference import Verdict
from scripts.reference.vectors import VectorFile
from tests.golden import GOLDEN

OURS = "official_derived"


@pytest.mark.parametrize(
    "entry",
    [
        f"{OURS}/main_distillation_per_head",
        f"{OURS}/balanced_grad_logits",
        f"{OURS}/lr_balanced",
        f"{OURS}/noise_std_of_mean_gradient_batch128_epoch1_to_70",
        f"update/{OURS}_weights_after_3_steps",
        f"augment/{OURS}_variants",
    ],
)
def test_a_wrong_number_is_found(entry: str, tmp_path: Path) -> None:
    with np.load(GOLDEN / "e2e.npz", allow_pickle=False) as archive:
        arrays = {each: archive[each] for each in archive.files}
    arrays[entry] = arrays[entry] * (1 + 1e-5)
    np.savez(tmp_path / "f.npz", **arrays)
    found = compare(VectorFile(tmp_path / "f.npz"))
    assert found.title == "End-to-End"
    assert [row.entry for row in found.rows if row.verdict.failed] == [entry]


def test_an_input_that_lacks_is_told(tmp_path: Path) -> None:
    with np.load(GOLDEN / "e2e.npz", allow_pickle=False) as archive:
        arrays = {each: archive[each] for each in archive.files if each != "labels"}
    np.savez(tmp_path / "f.npz", **arrays)
    found = compare(VectorFile(tmp_path / "f.npz"))
    assert not found.passed
    assert "labels" in [row.entry for row in found.rows if row.verdict is not Verdict.EQUAL]
