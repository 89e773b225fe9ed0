"""Golden vectors of RPS-Net: the published ones hold to 1e-9; a wrong one is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.reference.check_vectors import compare
from scripts.reference.vectors import VectorFile
from tests.golden import GOLDEN

FILE = GOLDEN / "rpsnet.npz"


def test_published_numbers_are_ours() -> None:
    found = compare(VectorFile(FILE))
    assert found.title == "RPS-Net"
    assert found.passed
    assert len(found.rows) == 17, "nothing is left unchecked"


@pytest.mark.parametrize("entry", ["session0/loss", "session1/grad_logits", "session6/loss", "phi_of_session_derived"])
def test_a_wrong_number_is_found(entry: str, tmp_path: Path) -> None:
    with np.load(FILE, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays[entry] = arrays[entry] * (1 + 1e-6)
    np.savez(tmp_path / "f.npz", **arrays)
    found = compare(VectorFile(tmp_path / "f.npz"))
    assert [row.entry for row in found.rows if row.verdict.failed] == [entry]


def test_a_file_without_its_inputs_is_told(tmp_path: Path) -> None:
    with np.load(FILE, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "jump"}
    np.savez(tmp_path / "f.npz", **arrays)
    assert not compare(VectorFile(tmp_path / "f.npz")).passed
