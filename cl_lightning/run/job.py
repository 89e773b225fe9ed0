"""One job as the command line sees it: in this process or in several, with one line and an exit code for what went
wrong.
"""

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
from cl_lightning.core.printable import printable
from cl_lightning.distributed.launcher import supervise
from cl_lightning.distributed.rank import RankInfo, rank_from_environment
from cl_lightning.distributed.signals import StoppedError, deferred_interrupt
from cl_lightning.run.enter_run_dir import enter_run_dir

if TYPE_CHECKING:
    from cl_lightning.report.data import Published  # heavy

ONE_LINE = "CL_LIGHTNING_ONE_LINE"
"""Set, for this process and those that it starts, where ``HYDRA_FULL_ERROR`` is not the user's wish but our own way to
get at Hydra's errors.
"""
WANTS_TRACEBACK = os.environ.get("HYDRA_FULL_ERROR") == "1" and ONE_LINE not in os.environ

failures: list[int] = []
"""Exit codes of this process's jobs that went wrong; a multirun goes on with the others."""
error_lines: list[str] = []
"""The lines that told so; empty where another process told it."""


class ExitRequestedError(BaseException):
    """The run, and a multirun with it, was told to end; ``code`` is the exit code, and all has been said.

    Like Ctrl-C it is not for those who handle what went wrong in a job.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def attempt(make: Callable[[], Config], *, resume: bool = False, began: Callable[[Path], None] | None = None) -> float:
    """Run what ``make`` gives; returns the average incremental accuracy, NaN for a job that went wrong.

    ``began`` is called with the run's folder as soon as this process alone writes there.

    Raises:
        LeftError: the user, or a scheduler, wants the machine back.
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
        print(f"\nstopped: {printable(_left(config))}", file=sys.stderr)
        raise


def _published(config: Config, rank: RankInfo | None) -> Published | None:
    """Return what the page draws beside the run's own curve; only the process that writes a page looks for it."""
    if not config.report.page or (rank is not None and rank.rank != 0):
        return None
    from cl_lightning.run.published_curve import published_curve  # heavy

    return published_curve(config)


def report_error(line: str, code: int = WRONG_INPUT) -> None:
    """Say what went wrong, and remember that something did."""
    failures.append(code)
    error_lines.append(line)
    print(f"error: {printable(line)}", file=sys.stderr)


def last_failure() -> tuple[int, str]:
    """Exit code and line of the job of this process that went wrong last."""
    return failures[-1], error_lines[-1]


def _in_processes(config: Config, resume: bool, began: Callable[[Path], None] | None) -> float:
    """Start the processes of the run, each with this very configuration, and wait for them."""
    run_dir = Path(config.run_dir)
    with enter_run_dir(config, resume=resume, began=began) as (goes_on, lock), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "job.json"
        job = {"config": to_plain(config), "resume": goes_on, "typed": sys.argv}
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
    """What a started process does with the ``job.json`` that it was given; returns its exit code."""
    job = json.loads(file.read_text(encoding="utf-8"))
    sys.argv = job["typed"]  # for the results' provenance
    try:
        attempt(lambda: load_plain(job["config"]), resume=job["resume"])
    except ExitRequestedError as left:
        return left.code
    except KeyboardInterrupt:
        return INTERRUPTED
    return max(failures, default=0)


def _check_started(config: Config, rank: RankInfo | None) -> None:
    """Refuse a number of processes that somebody else started and that does not fit. Raises ``UserError``."""
    if rank is None:
        return
    replicas, here = config.batch.replicas, rank.local_world_size
    if here != config.trainer.devices:
        raise UserError(
            f"{here} processes were started on this machine, but trainer.devices={config.trainer.devices}: type "
            f"trainer.devices={here} (with trainer=ddp or trainer=ddp_cpu), or start {config.trainer.devices}"
        )
    if replicas % rank.world_size:
        raise UserError(
            f"{rank.world_size} processes were started, which does not divide batch.replicas={replicas}: start "
            f"{' or '.join(str(n) for n in range(1, replicas + 1) if replicas % n == 0)}"
        )


def _left(config: Config | None) -> str:
    """What an interrupted run leaves, for its user."""
    if config is None or not list(Path(config.run_dir).glob("checkpoints/task_*.pt")):
        return "nothing had been kept yet"
    return f"what was kept last is in {config.run_dir}; type resume={config.run_dir} to go on"


def _last_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
