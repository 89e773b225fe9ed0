"""Golden vectors of UCIR: the published ones hold to 1e-9; a wrong one is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.reference.check_vectors import compare
from scripts.reference.vectors import VectorFile
from tests.golden import GOLDEN

FILE = GOLDEN / "ucir.npz"


def test_published_numbers_are_ours() -> None:
    found = compare(VectorFile(FILE))
    assert found.title == "UCIR"
    assert found.passed
    assert len(found.rows) == 39, "nothing is left unchecked"


@pytest.mark.parametrize(
    "entry",
    [
        "all/grad/features", "no_old_sample/loss/less_forget", "imprint/new_weight", "block_down/output",
        "forward/new_cosines", "lambda_schedule/imagenet_20_steps",
    ],
)  # fmt: skip
def test_a_wrong_number_is_found(entry: str, tmp_path: Path) -> None:
    with np.load(FILE, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays[entry] = arrays[entry] * (1 + 1e-7)
    np.savez(tmp_path / "f.npz", **arrays)
    found = compare(VectorFile(tmp_path / "f.npz"))
    assert [row.entry for row in found.rows if row.verdict.failed] == [entry]
