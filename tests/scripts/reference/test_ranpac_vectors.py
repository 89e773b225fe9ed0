"""Golden vectors of RanPAC: the published ones hold; a wrong one is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.reference.check_vectors import compare
from scripts.reference.vectors import VectorFile
from tests.golden import GOLDEN

FILE = GOLDEN / "ranpac_small.npz"


def changed(folder: Path, **entries: np.ndarray | None) -> VectorFile:
    with np.load(FILE, allow_pickle=False) as archive:
        arrays = {**{name: archive[name] for name in archive.files}, **entries}
    np.savez(folder / "f.npz", **{name: array for name, array in arrays.items() if array is not None})
    return VectorFile(folder / "f.npz")


def test_published_numbers_are_ours() -> None:
    found = compare(VectorFile(FILE))
    assert found.title == "RanPAC"
    assert found.passed
    assert len(found.rows) == 69, "nothing is left unchecked"


@pytest.mark.parametrize(
    "entry",
    [
        "task0/ranpac/G", "task1/ranpac/Q", "task2/ranpac/lambda", "task1/ranpac/validation_losses",
        "task0/ranpac/validation_losses_float32", "task1/no_projection/W_o_float64", "task2/ranpac/scores",
        "task2/ncm/prototypes",
    ],
)  # fmt: skip
def test_a_wrong_number_is_found(entry: str, tmp_path: Path) -> None:
    wrong = VectorFile(FILE)[entry].numpy() * 1.01
    assert [row.entry for row in compare(changed(tmp_path, **{entry: wrong})).rows if row.verdict.failed] == [entry]


def test_another_projection_is_found(tmp_path: Path) -> None:
    w = VectorFile(FILE)["W"].numpy()
    failed = [row.entry for row in compare(changed(tmp_path, W=w[:, ::-1] * 1.001)).rows if row.verdict.failed]
    assert {entry.split("/")[1] for entry in failed} == {"ranpac"}, "what reads no projection is as it was"


def test_what_is_missing_or_of_another_form_is_named(tmp_path: Path) -> None:
    assert [row.entry for row in compare(changed(tmp_path, W=None)).rows if row.verdict.failed] == ["W"]
    short = compare(changed(tmp_path, **{"task0/ranpac/validation_losses": np.ones(3)}))
    assert [row.entry for row in short.rows if row.verdict.failed] == ["task0/ranpac/validation_losses"]
