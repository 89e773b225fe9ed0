"""Report data are read as they were written, with many classes too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cl_lightning.report.data import FOLDER, ReportData, read_report_data, write_report_data


@pytest.mark.parametrize("classes", [3, 1024, 1025, 3000])
def test_a_confusion_matrix_of_any_size(tmp_path: Path, classes: int) -> None:
    confusion = np.zeros((classes, classes), dtype=np.int64)
    confusion[0, classes - 1], confusion[2, 1], confusion[1, 1] = 7, 1 << 40, 3
    write_report_data(tmp_path, ReportData(confusion=confusion))
    found = read_report_data(tmp_path).confusion
    assert found is not None
    assert found.dtype == np.int64
    assert np.array_equal(found, confusion)


def test_many_classes_are_small_in_the_file_and_no_matrix_is_none(tmp_path: Path) -> None:
    write_report_data(tmp_path, ReportData(confusion=np.eye(3000, dtype=np.int64)))
    with np.load(tmp_path / FOLDER / "data.npz", allow_pickle=False) as stored:
        assert sum(stored[name].nbytes for name in stored.files) < 100_000
    write_report_data(tmp_path, ReportData())
    assert read_report_data(tmp_path).confusion is None
