"""The CSV file of curves: what it looks like, and that nothing but its rows decides on its bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cl_lightning.learning import curves_file
from cl_lightning.learning.curves_file import CurvesFile, read_curves, read_rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.csv"


def test_rows_are_in_the_file_when_they_are_appended_and_new_columns_in_their_place(path: Path) -> None:
    file = CurvesFile(path)
    assert path.read_bytes() == b"step\r\n"
    file.append({"loss/b": 0.1, "task": 0}, 20)
    assert path.read_bytes() == b"loss/b,step,task\r\n0.1,20,0\r\n"
    file.append({"loss/b": float("nan")}, 40)
    assert path.read_bytes() == b"loss/b,step,task\r\n0.1,20,0\r\nnan,40,\r\n"
    file.append({"a,b": 1e-7, "z": 2}, 60)
    assert path.read_bytes() == b'"a,b",loss/b,step,task,z\r\n,0.1,20,0,\r\n,nan,40,,\r\n1e-07,,60,,2\r\n'


def test_it_is_what_lightnings_logger_writes(path: Path) -> None:
    from pytorch_lightning.loggers import CSVLogger

    points = [({"loss": 1 / 3, "lr": 1e-3, "task": 0}, 2), ({"task/x": 0.5, "task/index": 0}, 2), ({"loss": 7.0}, 3)]
    file = CurvesFile(path)
    theirs = CSVLogger(path.parent, name="", version="theirs")
    for point, step in points:
        file.append(point, step)
        theirs.log_metrics(point, step)
    theirs.save()
    assert path.read_bytes() == (path.parent / "theirs" / "metrics.csv").read_bytes()


@pytest.mark.parametrize("torn", [b"0.3", b"0.3,6", b"\xff,\n"[:1], 9 * b"\0", 5 * b"\0" + b",60\r\n"])
def test_what_a_kill_or_a_power_cut_left_at_the_end_is_no_row(path: Path, torn: bytes) -> None:
    CurvesFile(path).append({"loss": 0.1}, 20)
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert read_rows(path) == [{"loss": "0.1", "step": "20"}]
    CurvesFile(path, read_rows(path))
    assert path.read_bytes() == whole


def test_columns_of_rows_that_are_cut_away_go_and_values_stay_as_they_were_written(path: Path) -> None:
    path.write_bytes(b"loss,odd,step\r\n0.10,,20\r\n1E-3,5,40\r\n")
    rows = read_rows(path)
    CurvesFile(path, rows[:1])
    assert path.read_bytes() == b"loss,step\r\n0.10,20\r\n"


def test_no_file_and_an_empty_one_have_no_rows(path: Path) -> None:
    assert read_rows(path) == []
    path.touch()
    assert read_rows(path) == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"a,b\n1,2\n", "line 1, is no line of curves (columns must be different, and one of them step"),
        (b"step,step\n1,2\n", "line 1,"),
        (b"loss,step\n0.1,20\n0.2\n0.3,60\n", "line 3, is no line of curves (1 values for 2 columns"),
        (b"loss,step\n0.1,2.5\n", "line 2, is no line of curves (step is 2.5, not a whole number"),
        (b"loss,step\n0.1,\n", "step is missing"),
        (b"step,task/index\n1,x\n", "task/index is x"),
        (b'loss,step\n"0.1"x,20\n', "line 2, is no line of curves"),
        (b"\x80\x03\n\xff\n", "line 1,"),
    ],
)
def test_what_is_no_file_of_curves_is_refused_in_one_line(path: Path, text: bytes, told: str) -> None:
    path.write_bytes(text)
    with pytest.raises(ValueError) as refused:
        read_rows(path)
    assert told in str(refused.value)
    assert str(path) in str(refused.value)
    assert "pass csv=False" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_new_column_and_a_cut_are_there_at_once_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = CurvesFile(path)
    file.append({"loss": 0.1}, 20)
    before = path.read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "replace", refuse)
        with pytest.raises(OSError, match=r"No space left on device: '.*metrics.csv'"):
            file.append({"new": 1.0}, 40)
        with pytest.raises(OSError, match=r"No space left on device: '.*metrics.csv'"):
            CurvesFile(path)
        assert path.read_bytes() == before
        file.append({"loss": 0.2}, 40)
    file.append({"new": 1.0}, 60)
    assert path.read_bytes() == b"loss,new,step\r\n0.1,,20\r\n0.2,,40\r\n,1.0,60\r\n"
    assert [entry.name for entry in path.parent.iterdir()] == ["metrics.csv"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_reported_with_the_name_of_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = CurvesFile(path)
    monkeypatch.setattr(curves_file, "open_to_append", lambda *_, **__: os.open("/dev/full", os.O_WRONLY))
    with pytest.raises(OSError, match=r"No space left on device: '.*metrics.csv'"):
        file.append({}, 20)


def test_sync_waits_for_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = CurvesFile(path)
    file.append({}, 20)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    file.sync()
    assert synced == [path.stat().st_ino]
    assert path.read_bytes() == b"step\r\n20\r\n"


def test_lines_behind_a_damaged_one_are_not_lost(path: Path) -> None:
    path.write_bytes(b"loss,step\r\n0.1,20\r\n\0\0\0\0,40\r\n0.3,60\r\n0.4")
    assert read_curves(path) == ([{"loss": "0.1", "step": "20"}, {"loss": "0.3", "step": "60"}], 2)


def test_without_its_columns_nothing_is_read(path: Path) -> None:
    path.write_bytes(b"lo\0s,step\r\n0.1,20\r\n")
    assert read_curves(path) == ([], 2)
