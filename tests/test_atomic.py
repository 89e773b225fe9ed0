"""A file is the old one or the new one, whatever happens while it is written."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from cl_lightning.atomic import replace_file, write_atomic


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "results.json"
    write_atomic(path, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork: the child only writes files
@pytest.mark.parametrize("delay", [0.001, 0.013, 0.031])
def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path, delay: float) -> None:
    path = tmp_path / "results.json"
    texts = ["a" * 3_000_000, "b" * 3_000_000]
    write_atomic(path, texts[0])
    writer = os.fork()
    if writer == 0:
        while True:
            write_atomic(path, texts[1])
            write_atomic(path, texts[0])
    time.sleep(delay)
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    assert path.read_text() in texts
    write_atomic(path, "c")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("results.json", "c")]


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    write_atomic(tmp_path / "atomic", "x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_full_disk_is_told_with_the_file(tmp_path: Path) -> None:
    def full(file: BinaryIO) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: .*results\.json"):
        replace_file(tmp_path / "results.json", full)
