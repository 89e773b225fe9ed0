"""Many runs from one command: the interface of Hydra's sweepers and launchers, our jobs, and the user."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig

from cl_lightning.config.hydra_internals import error_of_job, replace_plugins
from cl_lightning.config.schema import Config
from cl_lightning.config.schema.fixed_names import names_of_jobs
from cl_lightning.config.sweep.check import is_search, is_slurm, is_submitit, mistake_of_multirun, typed_for
from cl_lightning.config.sweep.optuna_search import Search
from cl_lightning.config.sweep.parallel import as_job_beside_others, is_side_by_side, leaving_together
from cl_lightning.config.sweep.unused import unread_by_all
from cl_lightning.core.errors import UserError
from cl_lightning.core.printable import printable


@dataclass(frozen=True)
class Failed:
    """The return value of a failed job, from whichever process it ran in: no number, so that no sweeper can take
    it for a result (a search notes a failed trial and goes on).
    """

    code: int
    """Exit code that it would have had alone."""
    line: str
    """Its error message; empty if it was printed by a process of its own."""


def is_elsewhere(hydra: Any) -> bool:
    """Return whether the jobs of the multirun with this ``hydra`` node run in other processes than the command's."""
    return is_side_by_side(hydra) or is_submitit(hydra)


@contextmanager
def as_job() -> Iterator[None]:
    """Prepare this process to run a job, whichever launcher started it."""
    hydra = HydraConfig.get()
    if is_submitit(hydra):
        sys.argv[1:] = typed_for(hydra)  # the run's overrides, instead of submitit's arguments
    with as_job_beside_others():
        yield


def watch(failures: list[int]) -> None:
    """Supervise the multirun that this process may start.

    Mistakes of the multirun as a whole are a ``UserError`` before any job starts, a search becomes a :class:`Search`,
    and the exit codes of jobs that fail in other processes are added to ``failures``.
    """
    values: dict[int, float] = {}

    def sweeper(config: DictConfig, make: Callable[[], Sweeper]) -> Sweeper:
        mistake = mistake_of_multirun(config) or names_of_jobs(config) or unread_by_all(config.hydra)
        if mistake:
            raise UserError(mistake)
        return Search(config, make, values) if is_search(config.hydra) else make()

    replace_plugins(sweeper, lambda config, made: WatchedLauncher(made, config, failures, values))


class WatchedLauncher(Launcher):
    """A launcher whose return values are checked."""

    def __init__(self, launcher: Launcher, config: DictConfig, failures: list[int], values: dict[int, float]) -> None:
        self._launcher = launcher
        self._config = config
        self._failures = failures
        self._values = values

    def setup(self, **given: Any) -> None:
        """Do nothing: the wrapped launcher has been set up."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Start the jobs, wait for them, record failures."""
        if self._elsewhere:
            self._say_where(len(job_overrides))
        try:
            with leaving_together() if is_side_by_side(self._config.hydra) else nullcontext():
                answers = self._launcher.launch(job_overrides, initial_job_idx=initial_job_idx)
        except KeyboardInterrupt:
            if is_slurm(self._config.hydra):
                _say(f"the jobs go on: scancel --name={self._config.hydra.launcher.name} ends them")
            raise
        except Exception as error:
            mistake = _what_ended(error, str(self._config.hydra.sweep.dir))
            if mistake is None:
                raise
            raise UserError(mistake) from error
        for number, answer in enumerate(answers, initial_job_idx):
            self._note(number, answer)
        return answers

    @property
    def _elsewhere(self) -> bool:
        """True if the output of jobs goes to files."""
        return is_submitit(self._config.hydra)

    def _say_where(self, count: int) -> None:
        folder = f"{self._config.hydra.sweep.dir}/.submitit"
        _say(f"{count} job{'s' if count > 1 else ''} handed over: what they say is in {folder}")

    def _note(self, number: int, answer: JobReturn) -> None:
        if answer.status is JobStatus.FAILED:
            self._note_error(number, answer)
            return
        value = answer.return_value
        if not isinstance(value, Failed):
            self._values[number] = float(value)
            return
        self._failures.append(value.code)
        if self._elsewhere:
            _say(f"error: job {number}: {value.line or 'what went wrong is in its log'}")

    def _note_error(self, number: int, answer: JobReturn) -> None:
        """Raise the exception of a job, which is a bug of ours and must end a search too; unless submitit says
        that it could not resume the job.
        """
        error = error_of_job(answer)
        if _library(error) == "submitit":
            answer.return_value, answer.status = Failed(1, _last_line(error)), JobStatus.COMPLETED
            self._note(number, answer)
            return
        error.add_note(f"in job {number} of the multirun")
        if is_search(self._config.hydra):
            raise error


def _say(line: str) -> None:
    sys.stderr.write(f"{printable(line)}\n")


def _what_ended(error: Exception, folder: str) -> str | None:
    """Return one line on why a launcher gave up, where it was not one of our jobs' errors."""
    if type(error).__name__ == "TerminatedWorkerError":
        return (
            "a job was killed (out of memory?) and took the others along: type a smaller hydra.launcher.n_jobs, or go "
            f"on with those that have begun in {folder} by resume=RUN_DIR"
        )
    if type(error).__name__ == "UncompletedJobError":
        return f"a job ended without an answer, its end is in {folder}/.submitit; SLURM's other jobs go on"
    return f"the jobs could not be run: {_last_line(error)}" if _library(error) == "submitit" else None


def _library(error: BaseException) -> str:
    return type(error).__module__.partition(".")[0]


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


_NO_GROUP = (
    "method", "data", "seed", "data.order", "data.root", "run_dir", "if_exists", "verbose", "evaluate_phases", "debug",
    "sweep",
)  # fmt: skip
"""Keys in which runs of one group may differ, or that are in its name anyway; trainer, logger and report may too."""


def sweep_group(config: Config) -> str:
    """Return the group of a run on a dashboard: runs that differ in seed and class order alone share it: its mean
    is meaningful. Method and data, then whatever else was typed.
    """
    typed = typed_for(HydraConfig.get()) if HydraConfig.initialized() else []
    told = [word for word in typed if not _names_no_group(word.partition("=")[0].lstrip("+~"))]
    return " ".join([f"{config.method.name}_{config.data.name}", *sorted(told)])[:128]  # wandb's limit


def _names_no_group(key: str) -> bool:
    return key in _NO_GROUP or key.split(".")[0] in ("trainer", "logger", "report", "hydra")
