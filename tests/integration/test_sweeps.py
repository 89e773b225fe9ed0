"""Many runs from one command: side by side, as jobs of submitit, as a search; and what is wrong with such commands."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra

from cl_lightning.__main__ import main
from cl_lightning.config.compose import compose_typed
from cl_lightning.run.train import execute
from tests.integration.commands import a_few_and_the_rest

SMOKE = ["debug=smoke", "data.increment=5", "trainer.threads=1", "method=finetune"]


def start(arguments: list[str], cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "cl_lightning", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=cwd, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def run(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    process = start(arguments, cwd)
    out, err = process.communicate(timeout=280)
    assert "Traceback" not in err
    return subprocess.CompletedProcess(arguments, process.returncode, out, err)


def results(folder: Path) -> dict[str, Any]:
    """What a run found, without when and where."""
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    del found["provenance"]
    return found


def alone(overrides: list[str], folder: Path) -> dict[str, Any]:
    execute(compose_typed([*overrides, "trainer.progress=none", f"run_dir={folder}"]))
    return results(folder)


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


# ---- side by side ------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_jobs_side_by_side_give_what_they_give_alone_and_a_wrong_one_is_reported(tmp_path: Path) -> None:
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=sweep"]
    done = run(["-m", *SMOKE, *joblib, "memory.size=3,50"], tmp_path)
    assert done.returncode == 2, "the exit code comes out of another process"
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert len(errors) == 1
    assert errors[0].startswith("job 0: error: memory.size=3 is smaller than")
    assert "job 1: after task 2/2" in done.stderr
    assert not (tmp_path / "sweep" / "0" / "results.json").exists()
    assert results(tmp_path / "sweep" / "1") == alone([*SMOKE, "memory.size=50"], tmp_path / "alone")


@pytest.mark.long
def test_ctrl_c_lets_jobs_side_by_side_leave(tmp_path: Path) -> None:
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=sweep"]
    process = start(["-m", *joblib, "seed=0,1,2", "epochs_scale=0.05", "trainer.threads=1"], tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("sweep/*/results.json"))) == 2, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in told
    for job in (0, 1):
        assert f"resume=sweep/{job} to go on" in told
        assert list((tmp_path / "sweep" / str(job) / "checkpoints").iterdir())
    assert not (tmp_path / "sweep" / "2" / "config.yaml").exists(), "none is begun any more"


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes as Linux shows them")
def test_a_killed_job_is_reported(tmp_path: Path) -> None:
    joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=sweep"]
    process = start(["-m", *joblib, "seed=0,1", "epochs_scale=0.05", "trainer.threads=1"], tmp_path)
    wait_for(lambda: len(list(tmp_path.glob("sweep/*/run.log"))) == 2, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [child for child in children if "LokyProcess" in Path(f"/proc/{child}/cmdline").read_text()]
    assert len(workers) == 2
    os.kill(int(workers[0]), signal.SIGKILL)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    (line,) = (line for line in told.splitlines() if not line.startswith("job "))
    assert line.startswith("error: a job was killed")
    assert "resume=RUN_DIR" in line


# ---- submitit ----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_jobs_of_submitit_give_what_they_give_alone_and_a_wrong_one_is_reported(tmp_path: Path) -> None:
    done = run(["-m", *SMOKE, "hydra/launcher=submitit_local", "memory.size=3,50", "hydra.sweep.dir=sweep"], tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "2 jobs handed over: what they say is in sweep/.submitit",
        "error: job 0: memory.size=3 is smaller than the 10 classes seen: type memory.size=10 or more, or memory=none",
    ]
    assert results(tmp_path / "sweep" / "1") == alone([*SMOKE, "memory.size=50"], tmp_path / "alone")
    made = json.loads((tmp_path / "sweep" / "1" / "results.json").read_text())["provenance"]
    assert made["command"].split() == [*SMOKE, "memory.size=50"]


SLURM = {
    "sbatch": """
cp "$1" submitted.sh
echo "Submitted batch job 7"
(
  export SLURM_JOB_ID=7 SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_JOB_NUM_NODES=1
  for attempt in 1 2; do rm -f requeued; bash "$1"; test -e requeued || break; done
) > batch.log 2>&1 &
""",
    "srun": """
while [ "${1#--}" != "$1" ]; do
  case "$1" in --output) out="$2"; shift;; --error) err="$2"; shift;; esac
  shift
done
echo $$ > task
exec "$@" >> "$(echo "$out" | sed 's/%j/7/g; s/%t/0/g')" 2>> "$(echo "$err" | sed 's/%j/7/g; s/%t/0/g')"
""",
    "scontrol": 'echo "$@" >> requeued\ncp requeued asked',
    "sacct": "echo 'JobID|State|NodeList'; echo '7|RUNNING|here'",
}
"""What of SLURM a job meets, as far as it can be seen from inside."""


def make_slurm(folder: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    folder.mkdir()
    for name, text in (SLURM | programs).items():
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.long
def test_a_job_that_makes_room_goes_on_when_it_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["epochs_scale=0.02", "data.increment=5", "trainer.threads=1"]
    expected = alone(overrides, tmp_path / "alone")
    make_slurm(tmp_path / "bin", monkeypatch)
    process = start(["-m", "sweep=slurm", *overrides, "hydra.sweep.dir=sweep"], tmp_path)
    wait_for(lambda: (tmp_path / "sweep" / "0" / "results.json").exists(), process)
    os.kill(int((tmp_path / "task").read_text()), signal.SIGUSR2)
    _, told = process.communicate(timeout=250)
    assert process.returncode == 0, told
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    (log,) = (tmp_path / "sweep" / ".submitit").rglob("*_log.err")
    said = log.read_text()
    assert (
        said.index("stopped at task 2/2") < said.index("this job is preempted") < said.index("going on with task 2/2")
    )
    assert results(tmp_path / "sweep" / "0") == expected


@pytest.mark.slow
def test_what_slurm_is_asked_for_and_how_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    refusal = 'cp "$1" submitted.sh\necho "sbatch: error: invalid partition specified: nowhere" >&2\nexit 1'
    make_slurm(tmp_path / "bin", monkeypatch, sbatch=refusal)
    monkeypatch.chdir(tmp_path)
    arguments = ["-m", "sweep=[seeds,slurm]", "hydra.launcher.partition=nowhere", "hydra.launcher.gpus_per_node=2"]
    *_, line = complaint(arguments, monkeypatch, capfd)
    assert line == "error: the jobs could not be run: sbatch: error: invalid partition specified: nowhere"
    script = (tmp_path / "submitted.sh").read_text()
    wanted = ["--array=0-2%", "--partition=nowhere", "--gpus-per-node=2", "--ntasks-per-node=1", "--time=720"]
    for option in [*wanted, "--signal=USR2@120", "--requeue"]:
        assert f"#SBATCH {option}" in script


# ---- a search ----------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_search_sees_no_test_image_and_takes_no_failed_trial(tmp_path: Path) -> None:
    search = ["sweep=search", "memory.size=3,50", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=search"]
    done = run(["-m", *SMOKE, *search], tmp_path)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("error")] == [
        "error: memory.size=3 is smaller than the 10 classes seen: type memory.size=10 or more, or memory=none"
    ]
    assert not [line for line in lines if "Warning" in line or "Failed experiment" in line or "[I " in line]
    best = yaml.safe_load((tmp_path / "search" / "optimization_results.yaml").read_text())
    (folder,) = (path.parent for path in (tmp_path / "search").glob("*/results.json"))
    found = results(folder)
    assert found["protocol"]["evaluates_on"] == "validation"
    assert best["best_value"] == found["average_incremental_accuracy"]
    assert int(best["best_params"]["memory.size"]) == 50
    assert f"with memory.size=50 (search/{folder.name})" in done.stdout


@pytest.mark.long
def test_a_search_goes_on_with_other_trials_of_the_same_kind(tmp_path: Path) -> None:
    search = ["sweep=search", "lr_scale=interval(1,4)", "hydra.sweeper.storage=sqlite:///search.db"]
    for _ in range(2):
        done = run(["-m", *SMOKE, *search, "hydra.sweeper.n_trials=1"], tmp_path)
        assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(tmp_path / "search.db")) as database:
        trials = database.execute(
            "SELECT state, param_value, value FROM trials JOIN trial_params USING (trial_id) "
            "JOIN trial_values USING (trial_id)"
        ).fetchall()
    assert [state for state, _, _ in trials] == ["COMPLETE", "COMPLETE"]
    assert abs(trials[0][1] - trials[1][1]) > 0.01, "the same seed would begin with the same trial"
    made = [results(path.parent) for path in sorted(tmp_path.glob("outputs/**/results.json"))]
    assert sorted(value for _, _, value in trials) == sorted(r["average_incremental_accuracy"] for r in made)
    assert f"best: {100 * max(value for _, _, value in trials):.2f} %" in done.stdout
    done = run(["-m", *SMOKE, *search, "memory.size=50"], tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "error: hydra.sweeper.study_name=search in sqlite:///search.db is a search with memory.size=None (not 50): "
        "type another hydra.sweeper.study_name\n"
    )


# ---- mistakes ----------------------------------------------------------------------------------------------------


def complaint(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], code: int = 2
) -> list[str]:
    """The lines that the program prints on stderr."""
    GlobalHydra.instance().clear()
    monkeypatch.setattr(sys, "argv", ["cl_lightning", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    told = capfd.readouterr().err
    assert ended.value.code == code, told
    return [line for line in told.splitlines() if line.strip()]


WRONG = {
    "sweep=seeds": "sweep=seeds is for several runs: type -m",
    "sweep=[orders,search] data=cifar100_10steps": "sweep=[orders,search] is for several runs: type -m",
    "hydra/launcher=joblib": "hydra/launcher=joblib is for several runs: type -m",
    "-m sweep=seeds,search": "type sweep=[seeds,search]",
    "-m sweep=search": "nothing to search for: type 'lr_scale=interval",
    "-m sweep=search data.validation=0 seed=0,1": "data.validation=0.0 lets a search look at the test images",
    "-m hydra/sweeper=optuna seed=0,1": "the worst accuracy: type sweep=search",
    "-m seed=range(0,1e30)": "seed=range(0,1e30) would be more than 100000 runs: type fewer values",
    "-m lr_scale=interval(1,4)": "lr_scale=interval(1,4) can be searched, not gone through: type sweep=search",
    "-m sweep=search seed=0,1 hydra/sweeper/sampler=grid": "sampler=grid is what -m does",
    "-m sweep=search seed=0,1 hydra.sweeper.storage=sqlite:///no/x.db": "hydra.sweeper.storage=sqlite:///no/x.db",
    "-m sweep=search seed=0,1 hydra.sweeper.storage=x hydra.sweeper.study_name=null": "hydra.sweeper.study_name=NAME",
    "-m hydra/launcher=joblb": "did you mean hydra/launcher=joblib?",
    "-m sweep=slurm hydra.launcher.time=3": "hydra.launcher.time",
    "-m sweep=search data=image_folder data.root=x data.validation=0 data.increment=1,2": "or data.evaluate_on=val",
}


@pytest.mark.parametrize("arguments", a_few_and_the_rest(WRONG))
def test_errors_are_one_line(
    arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (line,) = complaint(arguments.split(), monkeypatch, capfd)
    assert WRONG[arguments] in line


@pytest.mark.slow
def test_slurm_must_be_there_and_runs_must_be_able_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    (line,) = complaint(["-m", "sweep=slurm"], monkeypatch, capfd)
    assert "sbatch and srun are not on this machine" in line
    make_slurm(tmp_path / "bin", monkeypatch)
    (line,) = complaint(["-m", "hydra/launcher=submitit_slurm"], monkeypatch, capfd)
    assert "type if_exists=resume" in line


@pytest.mark.slow
def test_validation_cannot_be_searched_down_to_test_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    search = ["-m", "sweep=search", "data.validation=0,0.0", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=search"]
    *jobs, last = complaint(search, monkeypatch, capfd)
    assert len(jobs) == 2
    assert all("data.validation=0.0 lets a search look at the test images" in line for line in jobs)
    assert last == "error: no trial of the search went well: see what each said"


@pytest.mark.slow
def test_without_the_extra_the_rest_works_and_one_line_says_what_to_install(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["hydra_plugins"] = None
from cl_lightning.__main__ import main
for arguments in (["--help"], ["-m", "hydra/launcher=joblib"], ["-m", "sweep=slurm"], ["sweep=search", "--cfg", "job"]):
    sys.argv[1:] = arguments
    try:
        main()
    except SystemExit as ended:
        print("code", ended.code, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    install = 'needs packages that are not installed: type pip install "cl-lightning[sweep]"'
    assert done.stderr.splitlines() == [
        "code 0",
        f"error: hydra/launcher=joblib {install}", "code 2",
        f"error: hydra/launcher=submitit_slurm {install}", "code 2",
        f"error: hydra/sweeper=optuna {install}", "code 2",
    ]  # fmt: skip
    assert "sweep: orders, search, seeds, slurm" in done.stdout
