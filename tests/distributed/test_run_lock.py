"""One writer for a run's folder, until it ends, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from cl_lightning.core.errors import UserError
from cl_lightning.distributed.run_lock import HANDED_OVER, LOCK, only_writer

HOLD = """
import os, subprocess, sys, time
from pathlib import Path
from cl_lightning.distributed.run_lock import only_writer
with only_writer(Path("run")) as lock:
    if sys.argv[1] == "forks":
        if os.fork() == 0:
            print("holds", flush=True)
            time.sleep(600)  # as a loader's worker that outlives its parent for a while
        time.sleep(600)
    if sys.argv[1] == "starts":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("holds", flush=True)
    time.sleep(600)
"""


def holder(folder: Path, how: str = "alone") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, how]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "holds\n"
    return process


@pytest.mark.parametrize("how", ["alone", "forks", "starts"])
def test_the_second_is_refused_until_the_first_has_died(tmp_path: Path, how: str) -> None:
    first = holder(tmp_path, how)
    try:
        told = rf"run is being written by process {first.pid} on .* since 20\d\d-.*: wait until that has ended"
        with pytest.raises(UserError, match=told), only_writer(tmp_path / "run"):
            pass
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        with only_writer(tmp_path / "run"):
            assert (tmp_path / "run" / LOCK).is_file()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(first.pid, signal.SIGKILL)
        first.communicate()


def test_it_is_held_in_one_process_too_and_leaves_nothing(tmp_path: Path) -> None:
    run_dir = tmp_path / "a" / "run"
    with only_writer(run_dir):
        (run_dir / "results.json").write_text("{}")
        with pytest.raises(UserError, match=f"written by process {os.getpid()} on"), only_writer(run_dir):
            pass
    assert [entry.name for entry in run_dir.iterdir()] == ["results.json"]
    with only_writer(run_dir):
        pass


def test_a_rank_shares_the_lock_of_who_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is free when both have ended."""
    run_dir = tmp_path / "run"
    with only_writer(run_dir) as lock:
        monkeypatch.setenv(HANDED_OVER, str(os.dup(lock)))
        with only_writer(run_dir):
            assert HANDED_OVER not in os.environ
            (run_dir / "run.log").write_text("")
        assert (run_dir / LOCK).exists(), "it is not the rank's to take away"
        with pytest.raises(UserError), only_writer(run_dir):
            pass
    with only_writer(run_dir):
        pass
    monkeypatch.setenv(HANDED_OVER, "0")
    with only_writer(run_dir), pytest.raises(UserError), only_writer(run_dir):
        pass


def test_a_folder_in_which_nothing_began_is_left_as_it_was_found(tmp_path: Path) -> None:
    new, had = tmp_path / "new", tmp_path / "had"
    had.mkdir()
    (had / "run.log").write_text("of before")

    def begun(run_dir: Path, error: Exception) -> None:
        with only_writer(run_dir):
            (run_dir / ".hydra").mkdir()
            (run_dir / "run.log").open("a").close()
            raise error

    for run_dir in (new, had):
        with pytest.raises(UserError, match="a mistake"):
            begun(run_dir, UserError("a mistake"))
    assert not new.exists()
    assert [entry.name for entry in had.iterdir()] == ["run.log"]
    with pytest.raises(ValueError, match="a bug"):
        begun(new, ValueError("a bug"))
    assert sorted(entry.name for entry in new.iterdir()) == [".hydra", "run.log"], "which has its traceback"


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    left = [".config.yaml.part", ".results.json.0a1b2c3d.part", "checkpoints/.task_000.pt.0a1b2c3d.part"]
    other = [".report.html.0a1b2c3d.part", "config.yaml", "checkpoints/task_000.pt", ".part"]
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / ".exemplars.0a1b2c3d.part").mkdir()
    for name in (*left, *other):
        (tmp_path / name).write_text("half")
    with only_writer(tmp_path):
        pass
    there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert there == {*other, "checkpoints"}


def test_the_lock_is_no_link(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "run").mkdir()
    for link in (os.symlink, os.link):
        link(mine, tmp_path / "run" / LOCK)
        with pytest.raises(OSError, match=r"\.lock"), only_writer(tmp_path / "run"):
            pass
        (tmp_path / "run" / LOCK).unlink()
    assert mine.read_text() == "mine"


def test_a_file_system_without_locks_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with only_writer(tmp_path / "run"):
        pass
    assert "its file system keeps no locks; let no second process write there" in caplog.text


@pytest.mark.parametrize("given", ["9999", "9" * 20, "-1", "²"])
def test_a_variable_that_names_no_open_file_is_nobodys_lock(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HANDED_OVER, given)
    with only_writer(tmp_path / "run"), pytest.raises(UserError), only_writer(tmp_path / "run"):
        pass
