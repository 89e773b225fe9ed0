"""Golden vectors of SimpleCIL: the published ones hold; a wrong one is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.reference.check_vectors import compare
from scripts.reference.vectors import VectorFile
from tests.golden import GOLDEN

FILE = GOLDEN / "simplecil_small.npz"


def changed(folder: Path, **entries: np.ndarray | None) -> VectorFile:
    with np.load(FILE, allow_pickle=False) as archive:
        arrays = {**{name: archive[name] for name in archive.files}, **entries}
    np.savez(folder / "f.npz", **{name: array for name, array in arrays.items() if array is not None})
    return VectorFile(folder / "f.npz")


def test_published_numbers_are_ours() -> None:
    found = compare(VectorFile(FILE))
    assert found.title == "SimpleCIL"
    assert found.passed
    assert len(found.rows) == 10, "nothing is left unchecked"


@pytest.mark.parametrize("entry", ["task0/prototypes", "task2/scores"])
def test_a_wrong_number_is_found(entry: str, tmp_path: Path) -> None:
    wrong = VectorFile(FILE)[entry].numpy() * 1.0001
    assert [row.entry for row in compare(changed(tmp_path, **{entry: wrong})).rows if row.verdict.failed] == [entry]


def test_answers_of_unit_features_are_others(tmp_path: Path) -> None:
    file = VectorFile(FILE)
    answers = {"of_normalised/predictions": file["task2/predictions"].numpy()}
    failed = [row for row in compare(changed(tmp_path, **answers)).rows if row.verdict.failed]
    assert [row.entry for row in failed] == ["of_normalised/predictions"]
    assert (file["of_normalised/predictions"] != file["task2/predictions"]).sum() == 5


def test_features_that_are_missing_are_named(tmp_path: Path) -> None:
    found = compare(changed(tmp_path, **{"task1/features": None, "test/labels": None}))
    assert [row.entry for row in found.rows if row.verdict.failed] == ["test/labels", "task1/features"]
