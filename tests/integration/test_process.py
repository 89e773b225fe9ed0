"""The whole program in this process, as it is typed: multirun, wandb offline, divergence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cl_lightning.checkpoint.files import list_checkpoints
from tests.integration.commands import typed
from tests.wandb_files import read_history

pytestmark = pytest.mark.slow
SMOKE = ["debug=smoke", "data.increment=5", "trainer.threads=1"]


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")


@pytest.mark.long
def test_multirun_gives_each_job_its_folder_and_what_it_gives_alone(tmp_path: Path) -> None:
    assert typed("-m", *SMOKE, "method=dytox,finetune", "seed=1", "hydra.sweep.dir=sweep") == 0
    folders = sorted(path for path in (tmp_path / "sweep").iterdir() if path.is_dir())
    found = [json.loads((folder / "results.json").read_text()) for folder in folders]
    assert [(r["protocol"]["method"], r["protocol"]["seed"]) for r in found] == [
        ("dytox", 1), ("finetune", 1)
    ]  # fmt: skip
    for folder in folders:
        assert (folder / "run.log").is_file()
        assert (folder / "metrics.csv").is_file()
    assert typed(*SMOKE, "method=finetune", "seed=1", "run_dir=alone") == 0
    single = json.loads((tmp_path / "alone" / "results.json").read_text())
    for results in (single, found[-1]):
        del results["provenance"]
    assert single == found[-1], "earlier jobs of the process must not leak into a later one"


def test_a_wrong_job_of_a_multirun_is_reported_and_the_others_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert typed("-m", *SMOKE, "memory.size=3,50", "hydra.sweep.dir=sweep") == 2
    told = capfd.readouterr().err
    assert "memory.size=3" in told
    assert "Traceback" not in told
    assert not (tmp_path / "sweep" / "0" / "results.json").exists()
    assert (tmp_path / "sweep" / "1" / "results.json").is_file()


@pytest.mark.long
def test_wandb_offline_holds_one_run_with_both_axes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert typed(*SMOKE, "logger=wandb", "logger.mode=offline", "run_dir=run") == 0
    files = list((tmp_path / "run").rglob("*.wandb"))
    assert len(files) == 1
    history = read_history(files[0])
    steps = [row["trainer/global_step"] for row in history if "loss/total" in row]
    assert steps == sorted(steps)
    assert len(steps) == len(set(steps)) >= 3
    tasks = [(row["task/index"], row["task/accuracy"]) for row in history if "task/index" in row]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    readout = results["protocol"]["readout"]
    assert tasks == [(t["index"], pytest.approx(t["accuracy"]["class_incremental"][readout])) for t in results["tasks"]]


def test_divergence_is_one_line_that_names_step_and_term(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    diverging = ["method=finetune", "epochs_scale=0.02", "method.main.lr=1e30", "trainer.log_every=1", "run_dir=run"]
    assert typed(*diverging, "trainer.progress=none") == 1
    told = capfd.readouterr().err
    lines = [line for line in told.splitlines() if line]
    assert len(lines) == 1, told
    assert "classification loss is" in lines[0]
    assert "step" in lines[0]
    assert list((tmp_path / "run" / "checkpoints").iterdir()), "what was kept before stays"


CLOSED_TERMINAL = """
import os, pty, select, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.executable, [sys.executable, "-m", "cl_lightning", *sys.argv[1:]])
curves, deadline = Path("run/metrics.csv"), time.monotonic() + 120
while not (curves.exists() and curves.stat().st_size > 100):
    assert time.monotonic() < deadline
    if select.select([terminal], [], [], 0.1)[0]:
        os.read(terminal, 65536)
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], marks=pytest.mark.long, id="one process"),
        pytest.param(["trainer=ddp_cpu", "batch.replicas=2"], id="two processes"),
    ],
)
def test_a_run_whose_terminal_is_closed_keeps_its_state(words: list[str], tmp_path: Path) -> None:
    """As when the connection to another machine breaks off."""
    typed_there = ["method=finetune", "model=resnet8", "run_dir=run", "trainer.checkpoint_minutes=null", *words]
    ended = subprocess.run([sys.executable, "-c", CLOSED_TERMINAL, *typed_there], timeout=200, check=False)
    assert ended.returncode == 75
    assert any("_step_" in path.name for path in list_checkpoints(tmp_path / "run" / "checkpoints"))
