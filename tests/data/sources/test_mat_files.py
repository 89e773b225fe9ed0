"""Lists of numbers and texts in MATLAB's files, of any shape; everything else is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from cl_lightning.data.sources.mat_files import MatFile
from cl_lightning.data.sources.published import DamagedError


@pytest.fixture
def saved(tmp_path: Path) -> MatFile:
    words = np.empty((2, 1), object)
    words[:, 0] = ["caf\u00e9/1.jpg", "b"]
    fields = {
        "row": np.array([[3, 1]], np.uint16), "column": np.array([[2.0], [5.0]]), "one": np.array([[7]]),
        "words": words, "word": np.array(["alone"], object), "half": np.array([[0.5]]), "nan": np.array([[np.nan]]),
        "none": np.empty((0, 0)),
    }  # fmt: skip
    savemat(tmp_path / "some.mat", fields)
    return MatFile(tmp_path / "some.mat")


def test_numbers_and_texts_of_any_shape_are_lists(saved: MatFile) -> None:
    assert (saved.numbers("row"), saved.numbers("column"), saved.numbers("one")) == ([3, 1], [2, 5], [7])
    assert (saved.texts("words"), saved.texts("word")) == (["caf\u00e9/1.jpg", "b"], ["alone"])
    assert saved.numbers("none") == []


@pytest.mark.parametrize(
    ("field", "kind", "told"),
    [
        ("gone", "numbers", "has no gone"),
        ("words", "numbers", "has no list of numbers in words"),
        ("nan", "numbers", "has no list of numbers in nan"),
        ("half", "numbers", "has other than whole numbers in half"),
        ("row", "texts", "has no list of texts in row"),
    ],
)
def test_another_kind_is_refused(saved: MatFile, field: str, kind: str, told: str) -> None:
    with pytest.raises(DamagedError, match=told):
        getattr(saved, kind)(field)


@pytest.mark.parametrize("content", [b"", b"no such file", b"MATLAB 5.0" + bytes(200), bytes(128)])
def test_what_is_no_such_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "odd.mat").write_bytes(content)
    with pytest.raises(DamagedError):
        MatFile(tmp_path / "odd.mat").numbers("labels")


def test_what_is_not_there_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        MatFile(tmp_path / "gone.mat")
