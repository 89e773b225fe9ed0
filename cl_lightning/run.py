"""One job: from a checked configuration to the files of a run."""

from __future__ import annotations

import dataclasses
import logging
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from cl_lightning.build import build_memory, build_method, build_pipeline, build_scenario, flips
from cl_lightning.checkpoints import Position, list_checkpoints
from cl_lightning.config.check import check_begin
from cl_lightning.config.option_names import LOGGER, RUN, TRAINER
from cl_lightning.config.saved import load_plain, to_plain
from cl_lightning.config.schema import Config, TrainerConfig
from cl_lightning.data.loading import Pipeline
from cl_lightning.data.scenario import Scenario
from cl_lightning.data.sources import ArraySource
from cl_lightning.data.workers import check_workers, idle_workers
from cl_lightning.errors import BrokenOffError, LostWorkerError, UserError, as_user_error, worded
from cl_lightning.forecast.memory import check_memory
from cl_lightning.journal import Bystander, Journal
from cl_lightning.learning.compiled import Trunks
from cl_lightning.learning.display import Display
from cl_lightning.learning.engine import Engine
from cl_lightning.learning.loggers import Curves, Kept, LoggerOptions, Status, make_curves, silent_curves
from cl_lightning.learning.precision import slow_half_precision
from cl_lightning.learning.processes import ALONE, Processes, joined, lost_peers_told
from cl_lightning.learning.trainer import TrainerOptions
from cl_lightning.methods.base import Method
from cl_lightning.paths import shown, writing
from cl_lightning.place import Rank
from cl_lightning.portrait import Painter
from cl_lightning.printable import printable
from cl_lightning.report.panels import Panels
from cl_lightning.report.progress import phase_line, phase_scalars, task_line, task_scalars
from cl_lightning.report.results import PhaseAccuracy
from cl_lightning.report.table import render_table
from cl_lightning.rng import Key
from cl_lightning.run_folder import elsewhere, entered
from cl_lightning.scenarios import inherited
from cl_lightning.scope import Verbosity, job_scope
from cl_lightning.sequence import AfterPhase, Sequence, Settings
from cl_lightning.state import RunState
from cl_lightning.stop import Stop, StoppedError, listening
from cl_lightning.writer import Writer

T = TypeVar("T")
log = logging.getLogger(__name__)

_LEAVE_AFTER = 25.0
"""Seconds that a process which writes nothing goes on taking part after it was asked to stop."""


def execute(
    config: Config, *, resume: bool = False, rank: Rank | None = None, began: Callable[[Path], None] | None = None
) -> float:
    """Learn the whole sequence, keeping the run's state as it goes; returns the average incremental accuracy in [0, 1].

    With ``resume``, the run that is in ``config.run_dir`` goes on where it was left. With ``rank``, this is one of
    several processes that make the run together; what counts is the first one's ``config``. ``began`` is called with
    the run's folder as soon as this process is the one that writes there.

    Raises:
        UserError: something that the user can mend, before anything is trained.
        StoppedError: somebody asked, and the run was left where it can be gone on with.
        FloatingPointError: a loss or a gradient was not finite.
        BrokenOffError: a full disk, a loader that was killed.
    """
    with ExitStack() as place, _together(config, rank) as processes:

        def enter() -> bool:
            goes_on, _ = place.enter_context(entered(config, resume=resume, began=began))
            return goes_on

        resume = _told_by_the_first(processes, enter)
        config = _agreed(config, processes)
        run_dir = Path(config.run_dir).resolve()
        _told_by_the_first(processes, partial(_check_place, config, run_dir, resume))
        with ExitStack() as stack:
            with writing(run_dir, elsewhere(run_dir, resume=resume)):
                on_gpu = _on_gpu(config.trainer)
                stack.enter_context(job_scope(config, run_dir, writes=processes.writes, on_gpu=on_gpu))
            with _how_to_go_on(run_dir), lost_peers_told(processes), worded(RUN):
                return processes.agree(_learn(config, run_dir, resume, processes))


def _told_by_the_first(processes: Processes, make: Callable[[], T]) -> T:
    """Return on each process what ``make`` gives to the first. Raises the ``UserError`` that it raises there."""
    found, told = None, None
    if processes.writes:
        try:
            found = make()
        except UserError as error:
            if processes.world == 1:
                raise
            told = str(error)
    found, told = processes.agree((found, told))
    if told is not None:
        raise UserError(told)
    return found  # type: ignore[return-value]


def _agreed(config: Config, processes: Processes) -> Config:
    """Return what the first process was told: it crosses as plain values."""
    plain = processes.agree(to_plain(config))
    return config if processes.writes else load_plain(plain)


def _learn(config: Config, run_dir: Path, resume: bool, processes: Processes) -> float:
    with as_user_error(RUN):
        with processes.one_before_the_others():
            scenario = build_scenario(config)
        key = Key(config.seed)
        check_memory(config, scenario)
        method = build_method(config, scenario, key)
        sequence = Sequence(scenario, method, RunState(build_memory(config)), _settings(config, key))
        last = _last_task(config, scenario)
        pipeline = build_pipeline(config, scenario, key)
        writer, painter = Writer(config, scenario, method, run_dir), Painter(config, scenario, method, pipeline)
        kept = writer.restore(processes) if resume else None
        if kept is None and config.extends is not None:
            sequence.state = inherited(config, method, scenario)
            _check_new_task(sequence.state.position.tasks, last)
        elif kept is not None:
            sequence.state = kept
        state = sequence.state
        ahead = sequence.forecast(last)
        if not isinstance(scenario.train, ArraySource):
            _check_workers(config, scenario, processes)
        begun = config.extends is None or state.position != Position(len(scenario.tasks) - 1)
        curves = _curves(config, run_dir, state, resume, processes, begun=begun)
    at = state.position
    told = processes.writes and config.verbose > Verbosity.QUIET
    display = Display(ahead, len(scenario.tasks), config.trainer.progress if told else "none")
    status: Status = "failed"
    results: dict[str, Any] = {}
    try:
        if processes.writes:
            writer.start()
            writer.warn()
            if kept is None and state.records:
                writer.keep(state)  # from here on the run needs nothing of the one before it
        slow = slow_half_precision(_precision(config), on_gpu=_on_gpu(config.trainer))
        for line in [*writer.opening_lines(state), *slow, *_idle_workers(config.trainer.workers)]:
            _tell(display, line)
        curves.log_configuration(dataclasses.asdict(config))
        draw = partial(painter.panels, state)
        if state.records:
            results = _log_task(writer, state, curves, processes, draw, again=at.items > 0 or at.steps > 0)
        with listening(None if processes.writes else _LEAVE_AFTER) as stop:
            journal = _journal(config, writer, state, curves, stop, processes)
            engine = _engine(config, scenario, pipeline, run_dir, display, curves, journal, processes)
            after_phase = _after_phase(method, state, curves, display, len(scenario.tasks))
            told_of = after_phase if config.evaluate_phases else None
            for task in sequence.run(engine, display, curves, journal, told_of) if at.tasks <= last else ():
                results = _log_task(writer, state, curves, processes, draw)
                _tell(display, task_line(results, len(scenario.tasks)))
                if task.index == last:
                    break
        status = "success"
    except (StoppedError, KeyboardInterrupt):
        status = "stopped"
        raise
    finally:
        display.close()
        curves.close(status)
    if processes.writes:
        page = painter.report(state, run_dir) if config.report.page else None
        if config.verbose > Verbosity.QUIET:
            sys.stdout.write(render_table(results, str(shown(run_dir)), width=100) + "\n")
            sys.stdout.write("" if page is None else f"Report: {printable(str(shown(page)))}\n")
    average = results["average_incremental_accuracy"]
    return math.nan if average is None else float(average)


def _settings(config: Config, key: Key) -> Settings:
    return Settings(key, config.batch.size or 1, config.batch.replicas or 1, flips(config))


def _check_workers(config: Config, scenario: Scenario, processes: Processes) -> None:
    """Raise ``UserError`` if the workers' batches do not fit into this machine's shared memory."""
    batch = config.batch
    learnt = (batch.size or 1) * len(processes.replicas(batch.replicas or 1))
    images = min(max(learnt, batch.evaluation), max(len(scenario.train), len(scenario.test)))
    with worded(TRAINER):
        check_workers(config.trainer.workers, images, scenario.image_size, processes.here)


def _idle_workers(workers: int) -> list[str]:
    """At most one line: more workers than cores."""
    cores = workers - idle_workers(workers)
    typed = f"trainer.workers={workers} on {cores} cores slows loading down: type trainer.workers={cores}"
    return [typed] if cores < workers else []


def _last_task(config: Config, scenario: Scenario) -> int:
    """The task after which the run ends."""
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


def _log_task(
    writer: Writer,
    state: RunState,
    curves: Curves,
    processes: Processes,
    draw: Callable[[dict[str, Any]], Panels],
    *,
    again: bool = False,
) -> dict[str, Any]:
    """Results and a point of the curves for the last task done; the point is there already if this is ``again``."""
    results = writer.results(state, write=processes.writes)
    if not again:
        curves.log_task(state.records[-1].index, task_scalars(results), lambda: draw(results))
    return results


def _after_phase(method: Method, state: RunState, curves: Curves, display: Display, num_tasks: int) -> AfterPhase:
    """A line and a point of the curves for each phase that was evaluated."""
    main_readout = next(iter(method.readouts()))

    def log_phase(entry: PhaseAccuracy) -> None:
        curves.log_phase(len(state.after_phases) - 1, entry.task, entry.phase, phase_scalars(entry))
        _tell(display, phase_line(entry, main_readout, num_tasks))

    return log_phase


def _tell(display: Display, line: str) -> None:
    """To the console and into the run's log."""
    display.say(line)
    log.info(line, extra={"told": True})


def _curves(
    config: Config, run_dir: Path, state: RunState, resume: bool, processes: Processes, *, begun: bool
) -> Curves:
    """The loggers of the run; of one that goes on from ``state``, what was logged later is taken back. Until it has
    ``begun`` to learn, a run that extends another one has that one's last task at step 0.
    """
    if not processes.writes:
        return silent_curves()
    at, tasks = state.position, len(state.records)
    logged = tasks if at.items or at.steps else tasks - 1  # at a task's end its point is still to come
    there = Kept(state.steps, max(0, logged), len(state.after_phases))
    options = _logger_options(config)
    with worded(LOGGER):
        curves = make_curves(options, run_dir, there) if resume else make_curves(options, run_dir, inherited=there)
    if begun:
        curves.offset = state.step_offset
    return curves


def _journal(
    config: Config, writer: Writer, state: RunState, curves: Curves, stop: Stop, processes: Processes
) -> Journal | Bystander:
    if not processes.writes:
        return Bystander()

    def save() -> None:
        curves.sync()  # first: a checkpoint must not know of points that a power cut takes away
        writer.keep(state)

    every = config.trainer
    steps, minutes = every.checkpoint_steps, every.checkpoint_minutes
    return Journal(state, save, lambda: writer.place(state), stop, every_steps=steps, every_minutes=minutes)


def _engine(
    config: Config,
    scenario: Scenario,
    pipeline: Pipeline,
    run_dir: Path,
    display: Display,
    curves: Curves,
    journal: Journal | Bystander,
    processes: Processes,
) -> Engine:
    trainer = config.trainer
    options = TrainerOptions(trainer.accelerator, _precision(config), trainer.deterministic, run_dir, processes)
    return Engine(
        scenario,
        pipeline,
        options,
        workers=trainer.workers,
        evaluation_batch=config.batch.evaluation,
        log_every=trainer.log_every,
        display=display,
        curves=curves,
        leaving=journal,
        trunks=Trunks(_compiles(trainer), asked_for=trainer.compile == "trunk"),
        cuda_graphs=trainer.cuda_graphs,
    )


def _precision(config: Config) -> str:
    return config.trainer.precision or "32-true"


def _compiles(trainer: TrainerConfig) -> bool:
    """Whether the networks' trunks are compiled: on a GPU it pays within minutes, on a CPU within hours."""
    if trainer.compile == "auto":
        return _on_gpu(trainer)
    return trainer.compile == "trunk"


def _on_gpu(trainer: TrainerConfig) -> bool:
    return trainer.accelerator != "cpu" and torch.cuda.is_available()


def _logger_options(config: Config) -> LoggerOptions:
    logger = config.logger
    group = f"{config.method.name}_{config.data.name}"
    return LoggerOptions(
        csv=logger.csv,
        wandb=logger.wandb,
        project=logger.project,
        entity=logger.entity,
        mode=logger.mode,
        name=logger.name or f"{group}_seed{config.seed}",
        group=logger.group or group,
        quiet=config.verbose == Verbosity.QUIET,
    )


def _together(config: Config, rank: Rank | None) -> AbstractContextManager[Processes]:
    """Meet the other processes of the run, if there are any."""
    if rank is None:
        return nullcontext(ALONE)
    accelerator, here = _accelerator(config), rank.here
    found = torch.cuda.device_count()
    if accelerator == "gpu" and here > found:
        hidden = " (if a scheduler shows each process one GPU only: type srun --gpu-bind=none)" if found == 1 else ""
        raise UserError(f"{here} processes need {here} GPUs, torch finds {found}: start {found}{hidden}")
    return joined(rank.index, rank.world, rank.local, here, accelerator)


def _accelerator(config: Config) -> str:
    """``gpu`` or ``cpu``."""
    asked = config.trainer.accelerator
    return asked if asked != "auto" else "gpu" if torch.cuda.is_available() else "cpu"


def _check_place(config: Config, run_dir: Path, resume: bool) -> None:
    """Raise ``UserError`` if something is wrong with this machine, or with what is in this folder."""
    begun = list_checkpoints(run_dir / "checkpoints")
    with as_user_error():  # a file that may not be looked at
        if not resume and ((run_dir / "results.json").exists() or begun):
            raise UserError(
                f"run_dir={run_dir} holds a run already: type resume={shown(run_dir)} to go on with it, or another "
                "run_dir"
            )
        if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
            raise UserError("trainer.accelerator=gpu, but torch finds no GPU here: type trainer.accelerator=cpu")
        if config.trainer.precision == "16-mixed" and _accelerator(config) == "cpu":
            raise UserError("trainer.precision=16-mixed needs a GPU: type trainer.precision=bf16-mixed")
        if not (resume and begun):
            check_begin(config)


@contextmanager
def _how_to_go_on(run_dir: Path) -> Iterator[None]:
    """What ended the run from outside, with the command that continues it."""
    again = f"type resume={shown(run_dir)} to go on"
    try:
        yield
    except StoppedError as stopped:
        raise StoppedError(f"stopped at {stopped}; {again}") from stopped
    except LostWorkerError as lost:
        told = f"{lost}: fewer may fit, type trainer.workers=N; what was written before is there: {again}"
        raise BrokenOffError(told) from lost
    except BrokenOffError as broken:
        raise BrokenOffError(f"{broken}; what was written before is there: {again}") from broken
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or str(error)
        raise BrokenOffError(f"{where}{reason}; what was written before is there: mend this, and {again}") from error
