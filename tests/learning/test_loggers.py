"""Curves of a run that is killed and gone on with: those of one that was not."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple
from unittest.mock import Mock, patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cl_lightning.learning import loggers as module
from cl_lightning.learning.loggers import Curves, LoggerOptions, ResumePoint, make_curves, silent_curves
from tests.wandb_files import read_history, read_offline, serving

CSV = LoggerOptions(csv=True, wandb=False, project="p", entity=None, mode="offline", name="n", group="g")


class Point(NamedTuple):
    """Scalars at a step of the run, or those of a task at its end, or of the ``phase``-th evaluation after a phase."""

    step: int
    task: int | None
    scalars: dict[str, float]
    phase: int | None = None


def log(curves: Curves, points: list[Point]) -> None:
    for step, task, scalars, phase in points:
        if phase is not None:
            curves.offset = step
            curves.log_phase(phase, step // TASK, "main", scalars)
        elif task is None:
            curves.offset = step // 2
            curves.log(scalars, step - step // 2)
        else:
            curves.offset = step
            curves.log_task(task, scalars)


def kept(points: list[Point]) -> ResumePoint:
    """What a checkpoint after ``points`` knows of them."""
    tasks, phases = sum(p.task is not None for p in points), sum(p.phase is not None for p in points)
    return ResumePoint(max((p.step for p in points), default=0), tasks, phases)


NAMES = st.sampled_from(["lr", "loss/total", "task", "Epoch", "a,b", 'quoted "x"', "stepped", "z"])
SCALARS = st.dictionaries(NAMES, st.one_of(st.floats(), st.integers(0, 9)), max_size=4)


@st.composite
def runs(draw: st.DrawFn) -> list[Point]:
    points: list[Point] = []
    for task in range(draw(st.integers(1, 3))):
        gaps = draw(st.lists(st.integers(1, 30), max_size=5))
        begin = points[-1].step if points else 0
        points += [Point(step, None, draw(SCALARS)) for step in list(accumulate(gaps, initial=begin))[1:]]
        for _ in range(draw(st.integers(0, 2))):
            phases = sum(point.phase is not None for point in points)
            points.append(Point(points[-1].step if points else 0, None, draw(SCALARS), phases))
        points.append(Point(points[-1].step if points else 0, task, draw(SCALARS)))
    return points


@settings(max_examples=40)
@given(st.data())
def test_however_often_a_run_is_killed_its_file_is_that_of_one_that_was_not(data: st.DataObject) -> None:
    points = data.draw(runs(), label="points")
    with tempfile.TemporaryDirectory() as folder, patch.object(os, "fsync"):
        whole, parts = Path(folder, "whole"), Path(folder, "parts")
        whole.mkdir()
        parts.mkdir()
        log(make_curves(CSV, whole), points)
        curves, begin = make_curves(CSV, parts), 0
        for _ in range(data.draw(st.integers(0, 4), label="kills")):
            killed = data.draw(st.integers(begin, len(points)), label="killed after")
            log(curves, points[begin:killed])
            file = parts / "metrics.csv"
            torn = data.draw(st.sampled_from([b"", b"0.1,", b'"', bytes(7)]), label="torn")
            file.write_bytes(file.read_bytes() + torn)
            begin = data.draw(st.integers(0, killed), label="checkpoint after")
            curves = make_curves(CSV, parts, kept(points[:begin]))
        log(curves, points[begin:])
        assert (parts / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


def test_points_after_the_checkpoint_go_and_a_new_run_begins_anew(tmp_path: Path) -> None:
    points = [
        Point(10, None, {"a": 1.5}),
        Point(10, None, {"c": 0.25}, phase=0),
        Point(10, 0, {"a": 0.5}),
        Point(20, None, {"b": 2.5}),
    ]
    log(make_curves(CSV, tmp_path), points)
    file = tmp_path / "metrics.csv"
    make_curves(CSV, tmp_path, ResumePoint(steps=19, tasks=1, phases=1))
    assert file.read_bytes() == (
        b"a,phase/index,phase/main/c,phase/task,step,task/a,task/index\r\n"
        b"1.5,,,,10,,\r\n,0,0.25,0,10,,\r\n,,,,10,0.5,0\r\n"
    )
    make_curves(CSV, tmp_path, ResumePoint(steps=10, tasks=0, phases=1))
    assert file.read_bytes() == b"a,phase/index,phase/main/c,phase/task,step\r\n1.5,,,,10\r\n,0,0.25,0,10\r\n"
    make_curves(CSV, tmp_path, ResumePoint(steps=10, tasks=0))
    assert file.read_bytes() == b"a,step\r\n1.5,10\r\n"
    make_curves(CSV, tmp_path)
    assert file.read_bytes() == b"step\r\n"


def test_a_process_that_does_not_write_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    curves = silent_curves()
    log(curves, [Point(10, None, {"a": 1.5}), Point(10, 0, {"a": 0.5})])
    curves.log_configuration({"seed": 1})
    curves.sync()
    curves.close("success")
    make_curves(replace(CSV, csv=False, wandb=True, mode="disabled"), tmp_path).close("success")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_an_id_that_wandb_would_not_take_is_reported(mode: str, tmp_path: Path) -> None:
    (tmp_path / "wandb_id").write_text("a/b\n\n")
    with pytest.raises(ValueError, match=r"wandb_id holds 'a/b', no id of a wandb run: delete it"):
        make_curves(replace(CSV, wandb=True, mode=mode), tmp_path, ResumePoint(0, 0))


def test_a_point_has_the_same_number_in_wandb_however_the_run_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run that begins with two tasks and three evaluations of another one, too, and without a CSV file."""
    sent: list[tuple[int, float]] = []

    def begin(*_: object) -> Mock:
        log_point = Mock(side_effect=lambda point, step, commit: sent.append((step, point["trainer/global_step"])))
        return Mock(starting_step=0 if not sent else sent[-1][0] + 1, log=log_point)

    monkeypatch.setattr(module, "begin_wandb_run", begin)
    points = [
        Point(100, 1, {"a": 0.5}),  # of the run before: its last task is shown again
        Point(110, None, {"loss": 1.0}),
        Point(110, None, {"a": 0.6}, phase=3),
        Point(120, None, {"loss": 1.0}),
        Point(120, None, {"a": 0.7}, phase=4),
        Point(120, 2, {"a": 0.8}),
        Point(130, None, {"loss": 1.0}),
    ]
    expected = [(105, 100), (115, 110), (116, 110), (126, 120), (127, 120), (128, 120), (138, 130)]
    for csv in (True, False):
        options = replace(CSV, csv=csv, wandb=True, mode="online")
        for killed, kept_of in ((7, 7), (5, 5), (5, 3), (4, 2), (3, 2), (6, 5)):
            sent.clear()
            folder = tmp_path / f"{csv}_{killed}_{kept_of}"
            folder.mkdir()
            log(make_curves(options, folder, inherited=ResumePoint(100, 1, 3)), points[:killed])
            tasks = 1 + sum(point.task is not None for point in points[:kept_of])
            phases = 3 + sum(point.phase is not None for point in points[:kept_of])
            log(make_curves(options, folder, ResumePoint(points[kept_of - 1].step, tasks, phases)), points[kept_of:])
            assert sent == expected, (csv, killed, kept_of)


def test_when_wandbs_process_is_gone_the_run_ends_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lost = Mock(side_effect=ConnectionResetError("Connection lost"))
    monkeypatch.setattr(module, "begin_wandb_run", lambda *_: Mock(starting_step=0, log=lost, finish=lost))
    curves = make_curves(replace(CSV, wandb=True), tmp_path)
    with pytest.raises(ConnectionError, match=r"^wandb's own process is gone \(Connection lost\)$"):
        curves.log({"loss": 0.5}, 10)
    assert (tmp_path / "metrics.csv").read_bytes() == b"loss,step\r\n0.5,10\r\n"
    curves.close("stopped")  # what ended the run is told, not this
    assert caplog.messages == ["wandb's own process is gone (Connection lost): its run lacks the end"]


# ---- Weights & Biases, in processes of its own: it is killed together with what logs to it ---------------------------

EVERY, TASK = 10, 1000
"""Steps between two points, and of a task."""

PART = """
import os, signal, subprocess, sys
from pathlib import Path
import wandb  # once for all parts: it takes seconds
from cl_lightning.learning.loggers import ResumePoint
from tests.learning.test_loggers import CSV, log, make_curves, phases_at, points_of, replace

def part(folder, mode, csv, steps, tasks, reach, end):
    kept = None if steps == "-" else ResumePoint(int(steps), int(tasks), phases_at(int(steps)))
    curves = make_curves(replace(CSV, csv=csv == "csv", wandb=True, mode=mode), Path(folder), kept)
    curves.log_configuration({"seed": 1})
    log(curves, points_of(int(reach))[len(points_of(int(steps), int(tasks))) if kept else 0 :])
    if end == "killed":
        found = subprocess.run(["pgrep", "-P", str(os.getpid()), "wandb-core"], capture_output=True, text=True)
        for pid in [*found.stdout.split(), os.getpid()]:
            os.kill(int(pid), signal.SIGKILL)
    curves.close("failed" if end.isdecimal() else end)

for arguments in sys.argv[4:]:
    child = os.fork()
    if child == 0:
        part(*sys.argv[1:4], *arguments.split())
        sys.exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == (-signal.SIGKILL if arguments.endswith("killed") else 0), (arguments, status)
    if arguments.split()[-1].isdecimal():
        os.truncate(max(Path(sys.argv[1]).glob("wandb/offline-run-*/*.wandb")), int(arguments.split()[-1]))
"""


def phases_at(step: int) -> int:
    """Evaluations after phases by then: one in the middle of each task."""
    return (step + TASK // 2) // TASK


def points_of(reach: int, tasks: int | None = None) -> list[Point]:
    """A run up to a step; ``tasks`` is one less where the end of a task has not been logged yet."""
    points = []
    for step in range(EVERY, reach + 1, EVERY):
        points.append(Point(step, None, {"loss": step / 7, "task": (step - 1) // TASK}))
        if step % TASK == TASK // 2:
            points.append(Point(step, None, {"accuracy": 1 / step}, phases_at(step) - 1))
        if step % TASK == 0 and (tasks is None or step // TASK <= tasks):
            points.append(Point(step, step // TASK - 1, {"accuracy": 1 / step}))
    return points


def in_parts(folder: Path, mode: str, csv: bool, parts: list[str], **environment: str) -> str:
    """Each part: steps and tasks of the checkpoint (``-`` for none), the last step, how it ends; a number: as if it had
    been killed when so many bytes were in wandb's file. Returns what was told.
    """
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", PART, str(folder), mode, "csv" if csv else "no", *parts]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def rows_of(points: list[Point]) -> list[dict[str, float]]:
    """What wandb is to know of a run: each point once, numbered by the steps, tasks and evaluations before it."""
    rows, others = [], 0
    for step, task, scalars, phase in points:
        others += task is not None or phase is not None
        named = scalars if task is None else {"task/accuracy": scalars["accuracy"], "task/index": task}
        if phase is not None:
            named = {"phase/main/accuracy": scalars["accuracy"], "phase/task": step // TASK, "phase/index": phase}
        rows.append({**named, "trainer/global_step": step, "_step": step + others})
    return rows


def known(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Rows without what depends on the clock."""
    return [{name: value for name, value in row.items() if name not in ("_timestamp", "_runtime")} for row in rows]


def offline_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"))


@pytest.mark.long
def test_offline_parts_are_one_run_with_every_point_once_and_can_be_synced(tmp_path: Path) -> None:
    """Nothing was in wandb's file yet, then less than the checkpoint knows, then who knows what."""
    folder = tmp_path / "run"
    parts = ["- - 300 7", "200 0 1900 30000", "1800 1 4500 killed", "2000 1 4600 stopped", "4600 4 4700 success"]
    in_parts(folder, "offline", True, parts)
    points = points_of(4700)
    files = offline_files(folder)
    assert len(files) in (3, 4), "parts that had nothing are gone"
    run_id = (folder / "wandb_id").read_text().strip()
    assert {file.name for file in files} == {f"run-{run_id}.wandb"}
    assert 25000 < files[0].stat().st_size < 30000
    assert known([row for file in files for row in read_history(file)]) == rows_of(points)
    ends = [[r.exit.exit_code for r in read_offline(f) if r.WhichOneof("record_type") == "exit"] for f in files]
    assert [end[:1] for end in ends[-3:]] == [[], [1], [0]]
    preempted = [any(r.WhichOneof("record_type") == "preempting" for r in read_offline(file)) for file in files]
    assert preempted[-3:] == [False, True, False]
    log(make_curves(CSV, tmp_path), points)
    assert (folder / "metrics.csv").read_bytes() == (tmp_path / "metrics.csv").read_bytes()

    with serving() as server:
        command = [sys.executable, "-m", "wandb", "sync", *(str(file.parent) for file in files)]
        environment = {**os.environ, **server.environment, "WANDB_MODE": "online"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert {name: known(rows) for name, rows in server.rows.items()} == {run_id: rows_of(points)}
        assert server.ends[run_id][-2:] == [1, 0]


@pytest.mark.long
def test_online_parts_are_one_run_with_every_point_once(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    parts = ["- - 600 killed", "500 0 1900 stopped", "1000 0 2100 success"]
    with serving() as server:
        told = in_parts(folder, "online", True, parts, **server.environment)
        assert "less than the current step" not in told, "wandb was given a point that it has"
        run_id = (folder / "wandb_id").read_text().strip()
        assert {name: known(rows) for name, rows in server.rows.items()} == {run_id: rows_of(points_of(2100))}
        assert server.ends[run_id] == ["preempting", 1, 0]


@pytest.mark.long
def test_without_a_csv_file_no_point_is_sent_twice(tmp_path: Path) -> None:
    """A run that is stopped, not killed, has them all; one that begins anew in the same folder is another run."""
    folder = tmp_path / "run"
    in_parts(folder, "offline", False, ["- - 1100 stopped", "1000 1 1200 failed", "- - 50 success"])
    *first, other = offline_files(folder)
    assert known([row for file in first for row in read_history(file)]) == rows_of(points_of(1200))
    assert known(read_history(other)) == rows_of(points_of(50))
    assert other.name != first[0].name == first[1].name
    assert not (folder / "metrics.csv").exists()
