"""The stages of a run that has been built and checked: announce it, learn task after task, report."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cl_lightning.checkpoint.files import Position
from cl_lightning.checkpoint.state import RunState
from cl_lightning.config.schema import Config
from cl_lightning.core.paths import display_path
from cl_lightning.core.rng import Key
from cl_lightning.core.terminal import ELSEWHERE, text_width
from cl_lightning.data.loading import Pipeline
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.workers import idle_workers
from cl_lightning.distributed.process_group import ProcessGroup
from cl_lightning.distributed.signals import StoppedError, deferred_signals
from cl_lightning.learning.display import Display, PhaseSpan
from cl_lightning.learning.engine import Observers
from cl_lightning.learning.loggers import Curves, Status
from cl_lightning.learning.precision import slow_half_precision
from cl_lightning.memory.rehearsal import RehearsalMemory
from cl_lightning.methods.base import Method
from cl_lightning.report.progress import phase_line, phase_scalars, task_line, task_scalars
from cl_lightning.report.results import PhaseAccuracy
from cl_lightning.report.table import closing_lines, headline, protocol_line, render_table
from cl_lightning.run.build_engine import build_checkpoint_schedule, build_engine, on_gpu
from cl_lightning.run.opening import INDENT, opening
from cl_lightning.run.process_setup import Verbosity
from cl_lightning.run.report_data import ReportBuilder
from cl_lightning.run.run_dir import RunDirectory
from cl_lightning.run.task_loop import AfterPhase, TaskLoop

log = logging.getLogger(__name__)

_STOP_AFTER = 25.0
"""Seconds that a process other than the main one still takes part after it was asked to stop."""


@dataclass(frozen=True)
class RunParts:
    """The objects that a configuration stands for, before the run's state is known."""

    config: Config
    run_dir: Path
    processes: ProcessGroup
    key: Key
    scenario: Scenario
    method: Method
    memory: RehearsalMemory
    """Memory of a run that begins: empty."""
    last: int
    """Index of the task after which the run ends."""
    pipeline: Pipeline
    run_directory: RunDirectory
    report_builder: ReportBuilder


@dataclass(frozen=True)
class StartedRun:
    """A run at the position of its state, with its observers."""

    loop: TaskLoop
    start: Position
    """Position at which it was begun or resumed."""
    display: Display
    curves: Curves
    spans: Sequence[PhaseSpan] = ()
    """Phases ahead of it."""


@contextmanager
def closed(run: StartedRun) -> Iterator[None]:
    """Close display and loggers in the end; the loggers get the status with which the run has ended."""
    status: Status = "failed"
    try:
        yield
        status = "success"
    except (StoppedError, KeyboardInterrupt):
        status = "stopped"
        raise
    finally:
        run.display.close()
        run.curves.close(status)


def announce(parts: RunParts, run: StartedRun, *, save: bool) -> None:
    """Write the run's configuration and report what it is; with ``save`` write its state too, which it has from another
    run.
    """
    config, run_directory, state = parts.config, parts.run_directory, run.loop.state
    if parts.processes.is_main:
        run_directory.start()
        run_directory.warn()
        if save:
            run_directory.save_checkpoint(state)  # from here on the run needs nothing of the one before it
    begins = save or state.position == Position()
    told = opening(
        config,
        parts.scenario,
        parts.run_dir,
        spans=run.spans,
        resumed_at=None if begins else run_directory.position_text(state),
        notes=[
            *run_directory.notes,
            *slow_half_precision(config.trainer.precision, on_gpu=on_gpu(config.trainer)),
            *idle_worker_lines(config.trainer.workers),
        ],
    )
    for line in (*told.lines, *told.notes):
        _report_line(run.display, line, indent=INDENT)
    for line in told.details:
        log.info(line)
    run.curves.log_configuration(dataclasses.asdict(config))


def learn(parts: RunParts, run: StartedRun) -> dict[str, Any]:
    """Learn task after task; return the results after the last one."""
    config, processes, loop = parts.config, parts.processes, run.loop
    state, num_tasks = loop.state, len(parts.scenario.tasks)
    results: dict[str, Any] = {}
    if state.records:
        results = _log_task(parts, run, again=run.start.items > 0 or run.start.steps > 0)
    with deferred_signals(None if processes.is_main else _STOP_AFTER) as stop:
        schedule = build_checkpoint_schedule(config, parts.run_directory, state, run.curves, stop, processes)
        observers = Observers(run.display, run.curves, schedule)
        engine = build_engine(config, parts.scenario, parts.pipeline, parts.run_dir, processes, observers)
        after_phase = _phase_logger(parts, run) if config.evaluate_phases else None
        for task in loop.run(engine, after_phase) if run.start.tasks <= parts.last else ():
            results = _log_task(parts, run)
            _report_line(run.display, task_line(results, num_tasks))
            if task.index == parts.last:
                break
    return results


def report(parts: RunParts, state: RunState, results: dict[str, Any]) -> None:
    """Write the page, and print the closing table and what to do next; the log gets the protocol too."""
    config, run_dir = parts.config, parts.run_dir
    page = parts.report_builder.report(state, run_dir) if config.report.page else None
    shown = str(display_path(run_dir))
    if config.verbose > Verbosity.QUIET:
        width, where = text_width(sys.stdout), None if page is None else str(display_path(page))
        sys.stdout.write(render_table(results, shown, width) + "\n")
        sys.stdout.write("\n".join(closing_lines(results, shown, where, width)) + "\n")
    log.info("%s", headline(results), extra={"displayed": True})
    for line in render_table(results, shown, ELSEWHERE).splitlines():
        log.info("%s", line, extra={"displayed": True})
    log.info("protocol: %s", protocol_line(results))


def _log_task(parts: RunParts, run: StartedRun, *, again: bool = False) -> dict[str, Any]:
    """Write results and log the curves' point for the last task done; with ``again`` that point is there already."""
    state = run.loop.state
    results = parts.run_directory.results(state, write=parts.processes.is_main)
    if not again:
        draw = partial(parts.report_builder.panels, state, results)
        run.curves.log_task(state.records[-1].index, task_scalars(results), draw)
    return results


def _phase_logger(parts: RunParts, run: StartedRun) -> AfterPhase:
    """Return a function that reports a line and logs a point of the curves for each phase that was evaluated."""
    main_readout, state = next(iter(parts.method.readouts())), run.loop.state

    def log_phase(entry: PhaseAccuracy) -> None:
        run.curves.log_phase(len(state.after_phases) - 1, entry.task, entry.phase, phase_scalars(entry))
        _report_line(run.display, phase_line(entry, main_readout, len(parts.scenario.tasks)))

    return log_phase


def _report_line(display: Display, line: str, indent: int | None = None) -> None:
    """Print a line on the console, folded with an ``indent`` if one is given, and write it into the run's log."""
    display.say(line, indent)
    log.info(line, extra={"displayed": True})


def idle_worker_lines(workers: int) -> list[str]:
    """Return a line if there are more workers than cores, else none."""
    cores = workers - idle_workers(workers)
    typed = f"trainer.workers={workers} on {cores} cores slows loading down: type trainer.workers={cores}"
    return [typed] if cores < workers else []
