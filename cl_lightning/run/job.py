"""One job of the command line: run in this process or in several, with one line and an exit code for a failure."""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_lightning.config.saved import load_plain, to_plain
from cl_lightning.config.schema import Config
from cl_lightning.core.errors import RunAbortedError, UserError
from cl_lightning.core.exit_codes import FAILED, INTERRUPTED, STOPPED, TERMINATED, WRONG_INPUT
from cl_lightning.core.file_type import read_file
from cl_lightning.core.paths import to_type
from cl_lightning.core.printable import printable
from cl_lightning.distributed.launcher import supervise
from cl_lightning.distributed.rank import RankInfo, rank_from_environment
from cl_lightning.distributed.signals import StoppedError, deferred_interrupt
from cl_lightning.run.enter_run_dir import enter_run_dir

if TYPE_CHECKING:
    from cl_lightning.report.data import Published  # heavy

ONE_LINE = "CL_LIGHTNING_ONE_LINE"
"""Variable that is set, for this process and those that it starts, if ``HYDRA_FULL_ERROR`` is not the user's wish but
our own way to get at Hydra's errors.
"""
WANTS_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1" and ONE_LINE not in os.environ

failures: list[int] = []
"""Exit codes of this process's jobs that failed; a multirun runs the others all the same."""
error_lines: list[str] = []
"""Lines that reported so; empty where another process reported it."""


class ExitRequestedError(BaseException):
    """A request to end the run, and a multirun with it; ``code`` is the exit code, and all has been reported.

    Like Ctrl-C it is no ``Exception``: what handles a job's failure lets it through.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def attempt(make: Callable[[], Config], *, resume: bool = False, began: Callable[[Path], None] | None = None) -> float:
    """Run what ``make`` gives; return the average incremental accuracy, NaN for a job that failed.

    ``began`` is called with the run's folder as soon as this process alone writes there.

    Raises:
        ExitRequestedError: the user, or a scheduler, has stopped the run, which saved its state.
        KeyboardInterrupt: the user does not want to wait for that.
    """
    config = None
    try:
        config = make()
        rank = rank_from_environment(os.environ)
        if rank is not None and rank.world_size == 1:
            rank = None  # one process, whoever started it
        if rank is None and config.trainer.devices > 1:
            return _in_processes(config, resume, began)
        _check_started(config, rank)
        with deferred_interrupt():
            from cl_lightning.run.train import execute  # heavy

        return execute(config, resume=resume, rank=rank, began=began, published=_published(config, rank))
    except (UserError, FloatingPointError, RunAbortedError) as error:
        if WANTS_TRACEBACK:
            raise
        report_error(_last_line(error), WRONG_INPUT if isinstance(error, UserError) else FAILED)
        return math.nan
    except StoppedError as stopped:
        print(f"\n{printable(str(stopped))}", file=sys.stderr)
        raise ExitRequestedError(STOPPED) from stopped
    except KeyboardInterrupt:
        print(f"\nstopped: {printable(_interrupted(config))}", file=sys.stderr)
        raise


def _published(config: Config, rank: RankInfo | None) -> Published | None:
    """Return the published curve for the page; only the process that writes a page looks for it."""
    if not config.report.page or (rank is not None and rank.rank != 0):
        return None
    from cl_lightning.run.published_curve import published_curve  # heavy

    return published_curve(config)


def report_error(line: str, code: int = WRONG_INPUT) -> None:
    """Print what went wrong, and record the failure."""
    failures.append(code)
    error_lines.append(line)
    print(f"error: {printable(line)}", file=sys.stderr)


def last_failure() -> tuple[int, str]:
    """Return exit code and line of this process's job that failed last."""
    return failures[-1], error_lines[-1]


def _in_processes(config: Config, resume: bool, began: Callable[[Path], None] | None) -> float:
    """Start the processes of the run, each with this configuration, and wait for them."""
    run_dir = Path(config.run_dir)
    with enter_run_dir(config, resume=resume, began=began) as (resumes, lock), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job.json"
        job = {"config": to_plain(config), "resume": resumes, "typed": sys.argv}
        file.write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-m", "cl_lightning.run.worker", str(file)]
        code = supervise(command, config.trainer.devices, logs=run_dir, lock=lock)
    if code in (STOPPED, INTERRUPTED, TERMINATED):
        raise ExitRequestedError(code)
    if code != 0:
        failures.append(code)
        error_lines.append("")
        return math.nan
    results: dict[str, Any] = json.loads(read_file(run_dir / "results.json"))
    average = results["average_incremental_accuracy"]
    return math.nan if average is None else float(average)


def run_as_rank(file: Path) -> int:
    """Run the job of a ``job.json`` in this process; return its exit code."""
    job = json.loads(file.read_text(encoding="utf-8"))
    sys.argv = job["typed"]  # for the results' provenance
    try:
        attempt(lambda: load_plain(job["config"]), resume=job["resume"])
    except ExitRequestedError as requested:
        return requested.code
    except KeyboardInterrupt:
        return INTERRUPTED
    return max(failures, default=0)


def _check_started(config: Config, rank: RankInfo | None) -> None:
    """Raise ``UserError`` if processes were started by another program, and their number does not fit."""
    if rank is None:
        return
    replicas, started = config.batch.replicas, rank.local_world_size
    if started != config.trainer.devices:
        raise UserError(
            f"{started} processes were started on this machine, but trainer.devices={config.trainer.devices}: type "
            f"trainer.devices={started} (with trainer=ddp or trainer=ddp_cpu), or start {config.trainer.devices}"
        )
    if replicas % rank.world_size:
        raise UserError(
            f"{rank.world_size} processes were started, which does not divide batch.replicas={replicas}: start "
            f"{' or '.join(str(n) for n in range(1, replicas + 1) if replicas % n == 0)}"
        )


def _interrupted(config: Config | None) -> str:
    """Return the message of an interrupted run: what it has saved, and how to resume it."""
    if config is None or not list(Path(config.run_dir).glob("checkpoints/task_*.pt")):
        return "nothing had been saved yet"
    return f"what was saved last is in {config.run_dir}; type {to_type('resume', config.run_dir)} to go on"


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
