"""What comes from outside: signals, full disks, dead loaders. One clear line, and nothing is lost."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cl_lightning.checkpoint.files import list_checkpoints, load_checkpoint
from tests.integration.commands import SHORT, outcome, typed, write_digits
from tests.integration.distributed.forked import in_processes

pytestmark = pytest.mark.slow
FILES = ["data=image_folder", "data.image_size=8", "data.flip=false", "model=convit_tiny", "model.patch_size=2"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    assert typed(*SHORT, f"run_dir={run_dir}", f"hydra.run.dir={run_dir}") == 0
    return run_dir


def start(run_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    """The program as a process of its own, once it has kept something within the first phase."""
    command = [sys.executable, "-m", "cl_lightning", *SHORT, f"run_dir={run_dir}", "trainer.checkpoint_steps=1"]
    process = subprocess.Popen(
        [*command, f"hydra.run.dir={run_dir}", *arguments],
        cwd=run_dir.parent,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 200
    while not list((run_dir / "checkpoints").glob("*_step_*.pt")) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.02)
    return process


@pytest.mark.parametrize(
    "number", [pytest.param(number, marks=pytest.mark.long) for number in (signal.SIGINT, signal.SIGTERM)]
)
def test_a_run_that_is_asked_to_stop_keeps_its_place_and_says_how_to_go_on(
    number: signal.Signals, whole: Path, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    process = start(run_dir)
    asked = time.monotonic()
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 75, told
    assert time.monotonic() - asked < 30
    assert f"type resume={run_dir.name} to go on" in told
    assert "task 1/3, phase main, after step" in told
    assert "Traceback" not in told
    assert "Error" not in told
    assert list_checkpoints(run_dir / "checkpoints")[-1].name.startswith("task_000_item_01_step_")
    assert typed(f"resume={run_dir}") == 0
    assert outcome(run_dir) == outcome(whole)
    provenance = json.loads((run_dir / "results.json").read_text())["provenance"]
    assert provenance["went_on_after_task"] == 0
    assert provenance["went_on_at_step"] > 0


def test_several_processes_are_left_together_and_one_may_go_on_alone(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = start(run_dir, "trainer=ddp_cpu", "batch.replicas=2", "batch.size=16")
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 75, told
    assert "task 1/3, phase main, after step" in told
    assert told.count("to go on") == 1
    assert "Traceback" not in told
    assert typed(f"resume={run_dir}", "trainer=cpu", "trainer.stop_after_task=0") == 0
    results = json.loads((run_dir / "results.json").read_text())
    assert results["provenance"]["went_on_at_step"] > 0
    assert results["protocol"]["replicas"] == 2


@pytest.mark.long
def test_the_same_command_again_goes_on_where_that_is_wanted(
    whole: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a scheduler does that starts a job again."""
    command = [*SHORT, f"run_dir={tmp_path / 'run'}", f"hydra.run.dir={tmp_path / 'run'}", "if_exists=resume"]
    assert typed(*command, "trainer.stop_after_task=0") == 0
    assert typed(*command, "seed=1") == 2
    assert "holds another run, with seed=0 (not 1): type another run_dir" in capfd.readouterr().err
    assert typed(*command[:-1]) == 2
    assert "holds a run already: type resume=" in capfd.readouterr().err
    assert typed(*command) == 0
    assert outcome(tmp_path / "run") == outcome(whole)
    assert typed(*command) == 0, "a finished run is only shown"


@pytest.mark.long
def test_precision_changes_on_demand_only_and_the_results_say_from_where_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    command = ["debug=smoke", "data.increment=5", "trainer.progress=none", f"run_dir={run_dir}"]
    assert typed(*command, f"hydra.run.dir={run_dir}", "trainer.stop_after_task=0") == 0
    assert typed(f"resume={run_dir}", "trainer.precision=bf16-mixed") == 2
    assert "type allow=precision as well" in capfd.readouterr().err
    assert typed(f"resume={run_dir}", "allow=seed") == 2
    assert "type allow=precision" in capfd.readouterr().err
    assert typed(f"resume={run_dir}", "trainer.precision=bf16-mixed", "allow=precision") == 0
    protocol = json.loads((run_dir / "results.json").read_text())["protocol"]
    assert protocol["precision"] == "32-true, then bf16-mixed"
    assert protocol["precision_of_phases"] == [
        "task 1 main: 32-true",
        "task 2 main: bf16-mixed",
        "task 2 finetuning: bf16-mixed",
    ]


@pytest.mark.long
def test_bf16_goes_on_to_the_bit_too(tmp_path: Path) -> None:
    """Few steps: most CPUs only pretend to calculate in bfloat16, slowly."""
    for name in ("whole", "parts"):
        command = ["debug=smoke", "data.increment=5", "trainer.progress=none", "trainer.precision=bf16-mixed"]
        command.append(f"run_dir={tmp_path / name}")
        stop = [] if name == "whole" else ["trainer.stop_after_task=0"]
        assert typed(*command, f"hydra.run.dir={tmp_path / name}", *stop) == 0
    assert typed(f"resume={tmp_path / 'parts'}") == 0
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")
    assert json.loads((tmp_path / "whole" / "results.json").read_text())["protocol"]["precision"] == "bf16-mixed"


# ---- a process of its own, forked from this one ---------------------------------------------------------------------


def apart(told: Path, prepare: Callable[[], None], *arguments: str) -> tuple[int, str]:
    """The command in a process that ``prepare`` has spoilt; returns its exit code and what it said."""

    def work(rank: int, world: int) -> int:
        file = os.open(told, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, 2)
        os.dup2(file, 1)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        prepare()
        return typed(*arguments)

    (code,) = in_processes(1, work)
    return code, told.read_text()


def test_a_full_disk_is_one_line_and_what_was_kept_is_whole(whole: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"

    def room_for_a_little() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        room = list_checkpoints(whole / "checkpoints")[-1].stat().st_size * 9 // 10
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    code, told = apart(
        tmp_path / "told", room_for_a_little, *SHORT, f"run_dir={run_dir}", f"hydra.run.dir={run_dir}"
    )  # the network grows, and with it its checkpoint
    assert code == 1
    lines = [line for line in told.splitlines() if line]
    assert len(lines) == 1, told
    assert "File too large; what was written before is there: mend this, and type resume=" in lines[0]
    assert not list(run_dir.rglob("*.part"))
    for path in list_checkpoints(run_dir / "checkpoints"):
        load_checkpoint(path)
    assert typed(f"resume={run_dir}") == 0
    assert outcome(run_dir) == outcome(whole)


def test_a_loader_that_dies_is_one_line(tmp_path: Path) -> None:
    root = write_digits(tmp_path / "digits")

    def kill_a_worker_soon() -> None:
        def kill() -> None:
            while not multiprocessing.active_children():
                time.sleep(0.005)
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()

    run_dir = tmp_path / "run"
    options = [*FILES, f"data.root={root}", "data.increment=2", "trainer.workers=1", "memory.size=20"]
    code, told = apart(
        tmp_path / "told",
        kill_a_worker_soon,
        *options,
        "epochs_scale=1",
        "batch.size=2",
        "trainer.progress=none",
        f"run_dir={run_dir}",
        f"hydra.run.dir={run_dir}",
    )
    assert code == 1, told
    lines = [line for line in told.splitlines() if line.startswith("error")]
    assert len(lines) == 1, told
    assert "a process that loads images has ended (killed by signal: Killed" in lines[0]
    assert "type trainer.workers=N; what was written before is there: type resume=" in lines[0]
    assert "Traceback" not in told


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert typed(*SHORT, f"run_dir={tmp_path / 'file' / 'run'}", f"hydra.run.dir={tmp_path / 'hydra'}") == 2
    told = capfd.readouterr().err
    assert told.count("\n") == 1
    assert "Not a directory" in told


def test_a_run_that_was_killed_before_it_kept_anything_starts_again(whole: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    saved = (whole / "config.yaml").read_text().replace(str(whole), str(run_dir))
    (run_dir / "config.yaml").write_text(saved)
    assert typed(f"resume={run_dir}") == 0
    assert outcome(run_dir) == outcome(whole)
