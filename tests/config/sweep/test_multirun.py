"""Many runs from one command: what becomes of the answers of jobs, and the group of a run on a dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from cl_lightning.config.sweep import multirun
from cl_lightning.config.sweep.multirun import Failed, is_elsewhere, sweep_group
from cl_lightning.core.errors import UserError
from tests.config.made import filled

BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
LOCAL = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher"
SLURM = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
GRID = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
OPTUNA = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"


def config(launcher: str = BASIC, sweeper: str = GRID) -> DictConfig:
    return OmegaConf.create(
        {
            "hydra": {
                "mode": RunMode.MULTIRUN,
                "launcher": {"_target_": launcher, "name": "jobs"},
                "sweeper": {"_target_": sweeper},
                "sweep": {"dir": "outputs/many"},
            }
        }
    )


def done(value: Any) -> JobReturn:
    return JobReturn(_return_value=value, status=JobStatus.COMPLETED)


def crashed(error: BaseException) -> JobReturn:
    return JobReturn(_return_value=error, status=JobStatus.FAILED)


class Answering(Launcher):
    """Gives these answers, or ends in this way."""

    def __init__(self, answers: Sequence[JobReturn] | BaseException) -> None:
        self.answers = answers

    def setup(self, **given: Any) -> None:
        """Nothing."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if isinstance(self.answers, BaseException):
            raise self.answers
        return self.answers


class Watched:
    """A launcher whose answers are looked at."""

    def __init__(self, answers: Sequence[JobReturn] | BaseException, config: DictConfig) -> None:
        self.failures: list[int] = []
        self.values: dict[int, float] = {}
        self._launcher = multirun.WatchedLauncher(Answering(answers), config, self.failures, self.values)

    def launch(self, count: int, first: int = 0) -> Sequence[JobReturn]:
        return self._launcher.launch([["seed=0"]] * count, first)


def from_library(name: str, kind: str, text: str) -> Exception:
    """An error of a class that only a library has."""
    made: Exception = type(kind, (Exception,), {"__module__": f"{name}.core"})(text)
    return made


def test_results_are_kept_by_the_number_of_their_job_and_exit_codes_of_failures() -> None:
    watched = Watched([done(0.5), done(Failed(2, "memory.size=3 is smaller")), done(0.25)], config())
    answers = watched.launch(3, first=7)
    assert (watched.values, watched.failures) == ({7: 0.5, 9: 0.25}, [2])
    assert isinstance(answers[1].return_value, Failed), "no number, that a sweeper could take for a result"


def test_what_jobs_elsewhere_say_is_repeated_here(capsys: pytest.CaptureFixture[str]) -> None:
    Watched([done(Failed(2, "no room")), done(Failed(1, "")), done(0.5)], config(LOCAL)).launch(3, first=4)
    assert capsys.readouterr().err.splitlines() == [
        "3 jobs handed over: what they say is in outputs/many/.submitit",
        "error: job 4: no room",
        "error: job 5: what went wrong is in its log",
    ]
    Watched([done(0.5)], config(LOCAL)).launch(1)
    assert capsys.readouterr().err.startswith("1 job handed over:")


def test_jobs_of_this_process_have_said_it_themselves(capsys: pytest.CaptureFixture[str]) -> None:
    Watched([done(Failed(2, "no room"))], config()).launch(1)
    assert capsys.readouterr().err == ""


def test_a_bug_of_a_job_is_told_with_its_number_and_ends_a_search_too() -> None:
    error = RuntimeError("a bug")
    watched = Watched([done(0.5), crashed(error)], config())
    watched.launch(2)
    assert error.__notes__ == ["in job 1 of the multirun"], "Hydra raises it behind us"
    assert watched.failures == []
    with pytest.raises(RuntimeError, match="a bug"):
        Watched([crashed(RuntimeError("a bug"))], config(sweeper=OPTUNA)).launch(1)


def test_a_job_that_submitit_could_not_start_again_is_a_failed_one(capsys: pytest.CaptureFixture[str]) -> None:
    lost = crashed(from_library("submitit", "FailedJobError", "Job 7 timed out\n  too many times\n\n"))
    watched = Watched([lost], config(LOCAL))
    answers = watched.launch(1)
    assert watched.failures == [1]
    assert answers[0].return_value == Failed(1, "too many times")
    assert capsys.readouterr().err.splitlines()[-1] == "error: job 0: too many times"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (from_library("joblib", "TerminatedWorkerError", "..."), "a job was killed (out of memory?) and took the oth"),
        (from_library("joblib", "TerminatedWorkerError", "..."), "on with those that have begun in outputs/many by re"),
        (
            from_library("submitit", "UncompletedJobError", "..."),
            "a job ended without an answer, its end is in outputs/many/.submitit; SLURM's other jobs go on",
        ),
        (
            from_library("submitit", "FailedSubmissionError", "sbatch:\nno such partition\n"),
            "the jobs could not be run: no such partition",
        ),
        (from_library("submitit", "FailedSubmissionError", ""), "the jobs could not be run: FailedSubmissionError"),
    ],
    ids=["killed", "how to go on", "no answer", "refused", "without a word"],
)
def test_what_ended_a_launcher_is_one_line(error: Exception, line: str) -> None:
    with pytest.raises(UserError) as told:
        Watched(error, config()).launch(2)
    assert line in str(told.value)


def test_any_other_error_of_a_launcher_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        Watched(ZeroDivisionError("ours"), config()).launch(1)


def test_ctrl_c_leaves_slurm_s_jobs_and_says_how_to_end_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        Watched(KeyboardInterrupt(), config(SLURM)).launch(2)
    assert capsys.readouterr().err.splitlines()[-1] == "the jobs go on: scancel --name=jobs ends them"
    with pytest.raises(KeyboardInterrupt):
        Watched(KeyboardInterrupt(), config()).launch(2)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("launcher", "elsewhere"), [(BASIC, False), (LOCAL, True), (SLURM, True)])
def test_which_jobs_run_in_other_processes(launcher: str, elsewhere: bool) -> None:
    assert is_elsewhere(config(launcher).hydra) is elsewhere


@pytest.mark.parametrize(
    ("typed", "group"),
    [
        ([], "dytox_digits"),
        (["seed=3", "data.order=seed:1", "method=dytox", "run_dir=x", "data.root=y"], "dytox_digits"),
        (["trainer.devices=2", "logger=wandb", "report.page=false", "hydra.sweep.dir=x"], "dytox_digits"),
        (["seed=3", "memory.size=50", "lr_scale=2"], "dytox_digits lr_scale=2 memory.size=50"),
        (["+data.order=1", "~debug", "data.order_by=1"], "dytox_digits data.order_by=1"),
        ([f"recipe={'x' * 200}"], f"dytox_digits recipe={'x' * 108}"),
    ],
    ids=["nothing", "which run", "how it is shown", "sorted", "signs", "long"],
)
def test_runs_that_differ_in_seed_and_class_order_alone_are_one_group(
    typed: list[str], group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = OmegaConf.create({"overrides": {"task": typed}})
    monkeypatch.setattr(HydraConfig, "initialized", staticmethod(lambda: True))
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: node))
    assert sweep_group(filled()) == group
