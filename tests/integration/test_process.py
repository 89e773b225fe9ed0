"""The program as a process: multirun, wandb offline, Ctrl-C, divergence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wandb_files import read_history

pytestmark = pytest.mark.slow
SMOKE = ["debug=smoke", "data.increment=5", "trainer.threads=1"]


def run(arguments: list[str], cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cl_lightning", *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=280, check=False)


def test_multirun_gives_each_job_its_folder_and_what_it_gives_alone(tmp_path: Path) -> None:
    done = run(["-m", *SMOKE, "method=dytox,finetune", "seed=1", "hydra.sweep.dir=sweep"], tmp_path)
    assert done.returncode == 0, done.stderr
    folders = sorted(path for path in (tmp_path / "sweep").iterdir() if path.is_dir())
    found = [json.loads((folder / "results.json").read_text()) for folder in folders]
    assert [(r["protocol"]["method"], r["protocol"]["seed"]) for r in found] == [
        ("dytox", 1), ("finetune", 1)
    ]  # fmt: skip
    for folder in folders:
        assert (folder / "run.log").is_file()
        assert (folder / "metrics.csv").is_file()
    alone = run([*SMOKE, "method=finetune", "seed=1", "run_dir=alone"], tmp_path)
    assert alone.returncode == 0, alone.stderr
    single = json.loads((tmp_path / "alone" / "results.json").read_text())
    for results in (single, found[-1]):
        del results["provenance"]
    assert single == found[-1], "earlier jobs of the process must not leak into a later one"


def test_a_wrong_job_of_a_multirun_is_told_and_the_others_run(tmp_path: Path) -> None:
    done = run(["-m", *SMOKE, "memory.size=3,50", "hydra.sweep.dir=sweep"], tmp_path)
    assert done.returncode == 2
    assert "memory.size=3" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "sweep" / "0" / "results.json").exists()
    assert (tmp_path / "sweep" / "1" / "results.json").is_file()


def test_wandb_offline_holds_one_run_with_both_axes(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    done = run([*SMOKE, "logger=wandb", "logger.mode=offline", "run_dir=run"], tmp_path, WANDB_MODE="offline")
    assert done.returncode == 0, done.stderr
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


def test_divergence_is_one_line_that_names_step_and_term(tmp_path: Path) -> None:
    diverging = ["method=finetune", "epochs_scale=0.02", "lr_scale=1e30", "trainer.log_every=1", "run_dir=run"]
    done = run([*diverging, "trainer.progress=none"], tmp_path)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, done.stderr
    assert "classification loss is" in lines[0]
    assert "step" in lines[0]
    assert list((tmp_path / "run" / "checkpoints").iterdir()), "what was kept before stays"
