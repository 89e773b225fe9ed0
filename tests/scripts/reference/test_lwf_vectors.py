"""Golden vectors of LwF: the published ones hold, of any size; a wrong one is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.reference.check_vectors import compare
from scripts.reference.vectors import VectorFile
from tests.golden import GOLDEN

FILE = GOLDEN / "lwf_small.npz"


def changed(folder: Path, **entries: np.ndarray | None) -> VectorFile:
    with np.load(FILE, allow_pickle=False) as archive:
        arrays = {**{name: archive[name] for name in archive.files}, **entries}
    np.savez(folder / "f.npz", **{name: array for name, array in arrays.items() if array is not None})
    return VectorFile(folder / "f.npz")


def test_published_numbers_are_ours() -> None:
    found = compare(VectorFile(FILE))
    assert found.title == "LwF"
    assert found.passed
    assert len(found.rows) == 14


@pytest.mark.parametrize("entry", ["task1/pycil/grad", "task2/facil/total", "task1/classification"])
def test_a_wrong_number_is_found(entry: str, tmp_path: Path) -> None:
    wrong = VectorFile(FILE)[entry].numpy() * 1.01
    assert [row.entry for row in compare(changed(tmp_path, **{entry: wrong})).rows if row.verdict.failed] == [entry]


def test_scores_that_are_missing_and_labels_of_old_classes_are_named(tmp_path: Path) -> None:
    file = changed(tmp_path, **{"task1/logits": None, "task2/y": np.zeros(8, dtype=np.int64)})
    assert [row.entry for row in compare(file).rows if row.verdict.failed] == ["task1/logits", "task2/y"]
