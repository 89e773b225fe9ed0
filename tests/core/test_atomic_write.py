"""A file is the old one or the new one, whatever happens while it is written."""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from cl_lightning.core.atomic_write import (
    beside,
    make_folder,
    open_alone,
    open_to_append,
    remove_parts,
    replace_file,
    write_atomic,
)


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
    remove_parts(tmp_path, "results.json")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("results.json", "c")]


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    write_atomic(tmp_path / "atomic", "x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_full_disk_is_reported_with_the_file(tmp_path: Path) -> None:
    def full(file: BinaryIO) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: .*results\.json"):
        replace_file(tmp_path / "results.json", full)


def test_two_writers_of_one_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "results.json"

    def slow(file: BinaryIO) -> None:
        file.write(b"first, ")
        write_atomic(path, "second")
        file.write(b"whole")

    replace_file(path, slow)
    assert path.read_text() == "first, whole", "the last one stays"
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """A folder that somebody has sent may hold links to the receiver's own files."""
    mine = tmp_path / "start_up_file"
    mine.write_text("mine")
    path = tmp_path / "run" / "config.yaml"
    path.parent.mkdir()
    for name in ("config.yaml", ".config.yaml.part", "run.log", ".lock"):
        (path.parent / name).symlink_to(mine)
    write_atomic(path, "new")
    assert not path.is_symlink(), "the link itself is replaced"
    for opened in (open_to_append, open_alone):
        for name in ("run.log", ".lock"):
            with pytest.raises(OSError, match=rf"it is a link, and nothing is written through links: .*{name}"):
                opened(path.parent / name)
    (path.parent / "dangling").symlink_to(tmp_path / "not_there")
    with pytest.raises(OSError, match="it is a link"):
        open_to_append(path.parent / "dangling")
    assert mine.read_text() == "mine"
    assert not (tmp_path / "not_there").exists()


def test_a_file_with_a_second_name_is_written_as_one_of_its_own(tmp_path: Path) -> None:
    """As copies that share their files have it, and as an archive may bring it."""
    mine, log = tmp_path / "mine", tmp_path / "run.log"
    mine.write_text("before\n")
    os.link(mine, log)
    with pytest.raises(OSError, match="it has a second name elsewhere"):
        open_alone(log)
    with os.fdopen(open_to_append(log), "a") as file:
        file.write("after\n")
    assert mine.read_text() == "before\n"
    assert log.read_text() == "before\nafter\n"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_files_are_appended_to(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "run.log")
    with pytest.raises(OSError, match=r"run\.log"):
        open_to_append(tmp_path / "run.log")


def test_a_folder_is_made_once_and_never_a_link(tmp_path: Path) -> None:
    make_folder(tmp_path / "checkpoints")
    make_folder(tmp_path / "checkpoints")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "report").symlink_to("elsewhere")
    with pytest.raises(OSError, match="it is a link"):
        make_folder(tmp_path / "report")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


def test_a_long_name_has_room_for_the_name_aside(tmp_path: Path) -> None:
    write_atomic(tmp_path / ("a" * 255), "x")
    assert len(beside(tmp_path / ("a" * 255)).name) < 255


def test_a_device_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write in /dev, and a file at /dev/null would be there for all programs."""
    monkeypatch.setattr(os, "replace", lambda part, path: pytest.fail(f"{path} would be replaced"))
    with pytest.raises(OSError, match="it is a device"):
        write_atomic(Path(os.devnull), "text")
