"""Golden vectors of PODNet: the published ones hold to 1e-9; a wrong one is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.reference.check_vectors import compare
from scripts.reference.difference import Verdict
from scripts.reference.vectors import VectorFile
from tests.golden import GOLDEN


@pytest.mark.parametrize(("name", "equal"), [("podnet", 95), ("podnet_network", 8)])
def test_published_numbers_are_ours(name: str, equal: int) -> None:
    found = compare(VectorFile(GOLDEN / f"{name}.npz"))
    assert found.title == "PODNet"
    assert found.passed
    assert found.counts[Verdict.EQUAL] == equal
    unchecked = [row.entry for row in found.rows if row.verdict is Verdict.UNCHECKED]
    assert all("softmax" in entry or "pod_spatial/loss_" in entry or entry == "eval/features" for entry in unchecked)


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("podnet", "lsc/grad_old_proxies"),
        ("podnet", "nca/wide_derived_margin0.6_hinge"),
        ("podnet", "pod_spatial/grad_student_map2"),
        ("podnet", "proxies/new_proxies"),
        ("podnet_network", "eval/map3"),
    ],
)
def test_a_wrong_number_is_found(name: str, entry: str, tmp_path: Path) -> None:
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as archive:
        arrays = {each: archive[each] for each in archive.files}
    arrays[entry] = arrays[entry] * (1 + 1e-6)
    np.savez(tmp_path / "f.npz", **arrays)
    found = compare(VectorFile(tmp_path / "f.npz"))
    assert [row.entry for row in found.rows if row.verdict.failed] == [entry]
