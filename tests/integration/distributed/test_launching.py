"""The real thing: one command starts the processes, torchrun starts them, and one of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cl_lightning.config.saved import load_plain
from cl_lightning.run import job
from tests.integration.commands import typed

pytestmark = pytest.mark.slow
SMOKE = ["debug=smoke", "data.increment=5", "trainer.progress=none", "batch.replicas=2", "batch.size=16"]
RUN = {"accuracy_matrix.csv", "checkpoints", "config.yaml", "images.csv.gz", "metrics.csv", "results.json", "run.log"}


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def finished(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.long
def test_a_multirun_gives_each_job_its_processes_and_its_own_configuration(tmp_path: Path) -> None:
    """Lightning's own launcher would repeat the whole sweep in every process."""
    command = [sys.executable, "-m", "cl_lightning", "-m", *SMOKE, "trainer=ddp_cpu", "seed=3,4", "method=finetune"]
    done = finished([*command, "hydra.sweep.dir=sweep"], tmp_path)
    assert done.stdout.count("Accuracy in % after task (row)") == 2, "one table a job, from one process"
    for number, seed in (("0", 3), ("1", 4)):
        assert files(tmp_path / "sweep" / number) == {*RUN, ".hydra"}
        assert json.loads((tmp_path / "sweep" / number / "results.json").read_text())["protocol"]["seed"] == seed
    assert files(tmp_path / "sweep") == {"0", "1", "multirun.yaml"}


def test_each_job_of_a_multirun_is_handed_on_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To processes that compose nothing: what they are given is the job's own, whole configuration."""
    given: list[tuple[int, int, str, Path]] = []

    def supervise(command: list[str], world: int, *, logs: Path, lock: int) -> int:
        assert command[:3] == [sys.executable, "-m", "cl_lightning.run.worker"]
        config = load_plain(json.loads(Path(command[3]).read_text())["config"])
        given.append((world, config.seed, config.method.name, logs))
        Path(config.run_dir).joinpath("results.json").write_text('{"average_incremental_accuracy": 0.5}')
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(job, "supervise", supervise)
    sweep = ["seed=3,4", "hydra.sweep.dir=sweep", "hydra/sweeper=basic"]
    assert typed("-m", *SMOKE, "trainer=ddp_cpu", "method=finetune", *sweep) == 0
    assert given == [(2, seed, "finetune", tmp_path / "sweep" / number) for number, seed in (("0", 3), ("1", 4))]


@pytest.mark.long
def test_torchrun_makes_one_run_in_one_folder(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "cl_lightning"]
    done = finished([*torchrun, *SMOKE, "trainer=ddp_cpu"], tmp_path)
    assert done.stdout.count("Accuracy in % after task (row)") == 1
    (run_dir,) = (tmp_path / "outputs" / "dytox_digits").iterdir()
    assert files(run_dir) == {*RUN, ".hydra"}
    wrong = subprocess.run([*torchrun, *SMOKE], cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert wrong.returncode != 0
    assert "2 processes were started on this machine, but trainer.devices=1: type trainer.devices=2" in wrong.stderr


def test_a_process_that_is_killed_takes_the_others_along_and_is_named(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cl_lightning", *SMOKE, "trainer=ddp_cpu", "epochs_scale=1", "run_dir=run"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 200
    while not (tmp_path / "run" / "checkpoints").exists() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    (second,) = (pid for pid in ranks_of(process.pid) if b"RANK=1" in environment(pid).split(b"\0"))
    killed = time.monotonic()
    os.kill(second, signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert process.returncode == 128 + signal.SIGKILL
    assert "error: rank 1 was killed by signal 9" in told
    assert "Traceback" not in told
    assert not ranks_of(process.pid), "nobody is left behind"


def ranks_of(parent: int) -> list[int]:
    """Living processes that ``parent`` started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(state[1]) == parent and state[0] != "Z":
                found.append(int(entry.name))
    return found


def environment(pid: int) -> bytes:
    try:
        return (Path("/proc") / str(pid) / "environ").read_bytes()
    except OSError:
        return b""
