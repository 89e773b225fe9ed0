"""One job: from a checked configuration to the files of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from cl_lightning.checkpoint.files import Position, list_checkpoints
from cl_lightning.checkpoint.state import RunState
from cl_lightning.config.check import check_begin
from cl_lightning.config.option_names import RUN, TRAINER
from cl_lightning.config.saved import load_plain, to_plain
from cl_lightning.config.schema import Config
from cl_lightning.core.errors import LostWorkerError, RunAbortedError, UserError, as_user_error, worded
from cl_lightning.core.paths import display_path, to_type, writing
from cl_lightning.core.rng import Key
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.data.workers import check_workers
from cl_lightning.distributed.process_group import SINGLE_PROCESS, ProcessGroup, lost_peers_reported, process_group
from cl_lightning.distributed.rank import RankInfo
from cl_lightning.distributed.signals import StoppedError
from cl_lightning.factory.added_task import inherited_state
from cl_lightning.factory.data import build_memory, build_pipeline, build_scenario, flips
from cl_lightning.factory.methods import build_method
from cl_lightning.learning.display import Display
from cl_lightning.learning.loggers import silent_curves
from cl_lightning.learning.stopping_rule import StoppingRule
from cl_lightning.report.data import Published
from cl_lightning.resources.memory_estimate import check_memory
from cl_lightning.run.build_engine import build_curves, on_gpu
from cl_lightning.run.enter_run_dir import elsewhere, enter_run_dir
from cl_lightning.run.process_setup import Verbosity, job_environment
from cl_lightning.run.report_data import ReportBuilder
from cl_lightning.run.run_dir import RunDirectory
from cl_lightning.run.stages import RunParts, StartedRun, announce, closed, learn, report
from cl_lightning.run.task_loop import LoopOptions, TaskLoop

T = TypeVar("T")


def execute(
    config: Config,
    *,
    resume: bool = False,
    rank: RankInfo | None = None,
    began: Callable[[Path], None] | None = None,
    published: Published | None = None,
) -> float:
    """Learn all tasks of the scenario, saving the run's state on the way; return the average incremental accuracy in
    [0, 1].

    With ``resume``, the run in ``config.run_dir`` is resumed from its last checkpoint. With ``rank``, this is one of
    several processes that make the run together; the ``config`` of the main process counts. ``began`` is called with
    the run's folder as soon as this process is the one that writes there. ``published`` is for its page.

    Raises:
        UserError: something that the user can mend, before anything is trained.
        StoppedError: the run was asked to stop, and saved its state: it can be resumed.
        FloatingPointError: a loss or a gradient was not finite.
        RunAbortedError: a full disk, a loader that was killed.
    """
    with ExitStack() as lock, _process_group(config, rank) as processes:

        def enter() -> bool:
            resumes, _ = lock.enter_context(enter_run_dir(config, resume=resume, began=began))
            return resumes

        resume = _on_main_process(processes, enter)
        config = _broadcast_config(config, processes)
        run_dir = Path(config.run_dir).resolve()
        _on_main_process(processes, partial(_check_run_dir, config, run_dir, resume))
        with ExitStack() as stack:
            with writing(run_dir, elsewhere(run_dir, resume=resume)):
                runs_on_gpu = on_gpu(config.trainer)
                stack.enter_context(job_environment(config, run_dir, is_main=processes.is_main, on_gpu=runs_on_gpu))
            with _resume_hint(run_dir), lost_peers_reported(processes), worded(RUN):
                return processes.broadcast(_learn(config, run_dir, resume, processes, published))


def _on_main_process(processes: ProcessGroup, make: Callable[[], T]) -> T:
    """Call ``make`` on the main process and return its value on every one; a ``UserError`` there is raised on all."""
    value, message = None, None
    if processes.is_main:
        try:
            value = make()
        except UserError as error:
            if processes.world_size == 1:
                raise
            message = str(error)
    value, message = processes.broadcast((value, message))
    if message is not None:
        raise UserError(message)
    return value  # type: ignore[return-value]


def _broadcast_config(config: Config, processes: ProcessGroup) -> Config:
    """Return the main process' configuration; it is sent as plain values."""
    plain = processes.broadcast(to_plain(config))
    return config if processes.is_main else load_plain(plain)


def _learn(config: Config, run_dir: Path, resume: bool, processes: ProcessGroup, published: Published | None) -> float:
    """Make one run in its locked folder: build, restore, announce, learn, report."""
    with as_user_error(RUN):
        parts = _build(config, run_dir, processes, published)
        state, is_inherited = _initial_state(parts, resume)
        run = _start(parts, state, resume)
    with closed(run):
        announce(parts, run, save=is_inherited)
        results = learn(parts, run)
    if processes.is_main:
        report(parts, state, results)
    average = results["average_incremental_accuracy"]
    return math.nan if average is None else float(average)


def _build(config: Config, run_dir: Path, processes: ProcessGroup, published: Published | None) -> RunParts:
    with processes.main_process_first():
        scenario = build_scenario(config)
    key = Key(config.seed)
    check_memory(config, scenario)
    method = build_method(config, scenario, key)
    memory = build_memory(config)
    last = _last_task(config, scenario)
    pipeline = build_pipeline(config, scenario, key)
    run_directory = RunDirectory(config, scenario, method, run_dir)
    builder = ReportBuilder(config, scenario, method, pipeline, published)
    return RunParts(config, run_dir, processes, key, scenario, method, memory, last, pipeline, run_directory, builder)


def _initial_state(parts: RunParts, resume: bool) -> tuple[RunState, bool]:
    """Return the last saved state of the run in this folder, else the final state of the run that it extends, else an
    empty one; and whether it is that other run's. The method gets the networks of that state.
    """
    config = parts.config
    restored = parts.run_directory.restore(parts.processes) if resume else None
    if restored is not None:
        return restored, False
    if config.extends is None:
        return RunState(parts.memory), False
    state = inherited_state(config, parts.method, parts.scenario)
    _check_new_task(state.position.tasks, parts.last)
    return state, True


def _start(parts: RunParts, state: RunState, resume: bool) -> StartedRun:
    """Return the run at its ``state``. Raises ``UserError``, before anything is written, if it could not be learnt."""
    config, scenario, processes = parts.config, parts.scenario, parts.processes
    loop = TaskLoop(scenario, parts.method, state, _loop_options(config, parts.key))
    spans = loop.forecast(parts.last)
    if not isinstance(scenario.train, ArraySource):
        _check_workers(config, scenario, processes)
    begun = config.extends is None or state.position != Position(len(scenario.tasks) - 1)
    is_main = processes.is_main
    curves = build_curves(config, parts.run_dir, state, resume, begun=begun) if is_main else silent_curves()
    displayed = is_main and config.verbose > Verbosity.QUIET
    display = Display(spans, len(scenario.tasks), config.trainer.progress if displayed else "none")
    return StartedRun(loop, state.position, display, curves, spans)


def _loop_options(config: Config, key: Key) -> LoopOptions:
    given = config.early_stopping
    rule = None if given.patience is None else StoppingRule(given.monitor, given.patience, given.min_delta)
    return LoopOptions(key, config.batch.size, config.batch.replicas, flips(config), config.data.balance, rule)


def _check_workers(config: Config, scenario: Scenario, processes: ProcessGroup) -> None:
    """Raise ``UserError`` if the workers' batches do not fit into this machine's shared memory."""
    batch = config.batch
    trained = batch.size * len(processes.replicas(batch.replicas))
    images = min(max(trained, batch.evaluation), max(len(scenario.train), len(scenario.test)))
    with worded(TRAINER):
        check_workers(config.trainer.workers, images, scenario.read_size, processes.local_world_size)


def _last_task(config: Config, scenario: Scenario) -> int:
    """Return the index of the task after which the run ends."""
    last = config.trainer.stop_after_task
    if last is not None and last >= len(scenario.tasks):
        raise UserError(
            f"trainer.stop_after_task={last} is not among the {len(scenario.tasks)} tasks: "
            f"type trainer.stop_after_task=0 to {len(scenario.tasks) - 1}, or null"
        )
    return len(scenario.tasks) - 1 if last is None else last


def _check_new_task(new: int, last: int) -> None:
    if last < new:
        raise UserError(
            f"trainer.stop_after_task={last} comes before the new task: type trainer.stop_after_task={new}, or null"
        )


def _process_group(config: Config, rank: RankInfo | None) -> AbstractContextManager[ProcessGroup]:
    """Join the group of the run's processes. Raises ``UserError`` if this machine has fewer GPUs than processes."""
    if rank is None:
        return nullcontext(SINGLE_PROCESS)
    accelerator, needed = _accelerator(config), rank.local_world_size
    found = torch.cuda.device_count()
    if accelerator == "gpu" and needed > found:
        hidden = " (if a scheduler shows each process one GPU only: type srun --gpu-bind=none)" if found == 1 else ""
        raise UserError(f"{needed} processes need {needed} GPUs, torch finds {found}: start {found}{hidden}")
    return process_group(rank.rank, rank.world_size, rank.local_rank, needed, accelerator)


def _accelerator(config: Config) -> str:
    """Return ``gpu`` or ``cpu``."""
    chosen = config.trainer.accelerator
    return chosen if chosen != "auto" else "gpu" if torch.cuda.is_available() else "cpu"


def _check_run_dir(config: Config, run_dir: Path, resume: bool) -> None:
    """Raise ``UserError`` if the folder holds a run already, or if this machine lacks what the run needs."""
    begun = list_checkpoints(run_dir / "checkpoints")
    with as_user_error():  # a file that may not be looked at
        if not resume and ((run_dir / "results.json").exists() or begun):
            typed = to_type("resume", display_path(run_dir))
            raise UserError(f"run_dir={run_dir} holds a run already: type {typed} to go on with it, or another run_dir")
        if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
            raise UserError("trainer.accelerator=gpu, but torch finds no GPU here: type trainer=cpu")
        if config.trainer.precision == "16-mixed" and _accelerator(config) == "cpu":
            raise UserError("trainer.precision=16-mixed needs a GPU: type trainer.precision=bf16-mixed")
        if not (resume and begun):
            check_begin(config)


@contextmanager
def _resume_hint(run_dir: Path) -> Iterator[None]:
    """Append the command that resumes the run to the message of whatever ends it from outside."""
    hint = f"type {to_type('resume', display_path(run_dir))} to go on"
    try:
        yield
    except StoppedError as stopped:
        raise StoppedError(f"stopped at {stopped}; {hint}") from stopped
    except LostWorkerError as lost:
        message = f"{lost}: fewer may fit, type trainer.workers=N; what was written before is there: {hint}"
        raise RunAbortedError(message) from lost
    except RunAbortedError as aborted:
        raise RunAbortedError(f"{aborted}; what was written before is there: {hint}") from aborted
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or str(error)
        raise RunAbortedError(f"{where}{reason}; what was written before is there: mend this, and {hint}") from error
