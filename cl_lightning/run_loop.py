"""What a run does once nothing can be refused any more: it is announced, learns task after task, and is reported."""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cl_lightning.build_engine import build_engine, build_journal, on_gpu
from cl_lightning.checkpoints import Position
from cl_lightning.config.schema import Config
from cl_lightning.data.loading import Pipeline
from cl_lightning.data.scenario import Scenario
from cl_lightning.data.workers import idle_workers
from cl_lightning.learning.display import Display
from cl_lightning.learning.engine import Observers
from cl_lightning.learning.loggers import Curves, Status
from cl_lightning.learning.precision import slow_half_precision
from cl_lightning.learning.processes import Processes
from cl_lightning.memory.rehearsal import RehearsalMemory
from cl_lightning.methods.base import Method
from cl_lightning.paths import shown
from cl_lightning.portrait import Painter
from cl_lightning.printable import printable
from cl_lightning.report.progress import phase_line, phase_scalars, task_line, task_scalars
from cl_lightning.report.results import PhaseAccuracy
from cl_lightning.report.table import render_table
from cl_lightning.rng import Key
from cl_lightning.scope import Verbosity
from cl_lightning.sequence import AfterPhase, Sequence
from cl_lightning.state import RunState
from cl_lightning.stop import StoppedError, listening
from cl_lightning.writer import Writer

log = logging.getLogger(__name__)

_LEAVE_AFTER = 25.0
"""Seconds that a process which writes nothing goes on taking part after it was asked to stop."""


@dataclass(frozen=True)
class Parts:
    """What a configuration comes to, before anything is known of the run's state."""

    config: Config
    run_dir: Path
    processes: Processes
    key: Key
    scenario: Scenario
    method: Method
    memory: RehearsalMemory
    """Of a run that begins."""
    last: int
    """The task after which the run ends."""
    pipeline: Pipeline
    writer: Writer
    painter: Painter


@dataclass(frozen=True)
class Run:
    """A run that stands where its state says, and those that are told of it."""

    sequence: Sequence
    at: Position
    """Where it stood when it was begun, or gone on with."""
    display: Display
    curves: Curves


@contextmanager
def closed(run: Run) -> Iterator[None]:
    """Close display and loggers in the end, which are told how the run has ended."""
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


def announce(parts: Parts, run: Run, *, keep: bool) -> None:
    """Write what the run is, and tell of it; with ``keep`` also what it has from another run."""
    config, writer, state = parts.config, parts.writer, run.sequence.state
    if parts.processes.writes:
        writer.start()
        writer.warn()
        if keep:
            writer.keep(state)  # from here on the run needs nothing of the one before it
    slow = slow_half_precision(config.trainer.precision, on_gpu=on_gpu(config.trainer))
    for line in [*writer.opening_lines(state), *slow, *_idle_workers(config.trainer.workers)]:
        _tell(run.display, line)
    run.curves.log_configuration(dataclasses.asdict(config))


def learn(parts: Parts, run: Run) -> dict[str, Any]:
    """Learn task after task; returns the results after the last one."""
    config, processes, sequence = parts.config, parts.processes, run.sequence
    state, num_tasks = sequence.state, len(parts.scenario.tasks)
    results: dict[str, Any] = {}
    if state.records:
        results = _log_task(parts, run, again=run.at.items > 0 or run.at.steps > 0)
    with listening(None if processes.writes else _LEAVE_AFTER) as stop:
        journal = build_journal(config, parts.writer, state, run.curves, stop, processes)
        observers = Observers(run.display, run.curves, journal)
        engine = build_engine(config, parts.scenario, parts.pipeline, parts.run_dir, processes, observers)
        told_of = _after_phase(parts, run) if config.evaluate_phases else None
        for task in sequence.run(engine, told_of) if run.at.tasks <= parts.last else ():
            results = _log_task(parts, run)
            _tell(run.display, task_line(results, num_tasks))
            if task.index == parts.last:
                break
    return results


def report(parts: Parts, state: RunState, results: dict[str, Any]) -> None:
    """Write the page, and print the closing table."""
    config, run_dir = parts.config, parts.run_dir
    page = parts.painter.report(state, run_dir) if config.report.page else None
    if config.verbose > Verbosity.QUIET:
        sys.stdout.write(render_table(results, str(shown(run_dir)), width=100) + "\n")
        sys.stdout.write("" if page is None else f"Report: {printable(str(shown(page)))}\n")


def _log_task(parts: Parts, run: Run, *, again: bool = False) -> dict[str, Any]:
    """Results and a point of the curves for the last task done; the point is there already if this is ``again``."""
    state = run.sequence.state
    results = parts.writer.results(state, write=parts.processes.writes)
    if not again:
        draw = partial(parts.painter.panels, state, results)
        run.curves.log_task(state.records[-1].index, task_scalars(results), draw)
    return results


def _after_phase(parts: Parts, run: Run) -> AfterPhase:
    """A line and a point of the curves for each phase that was evaluated."""
    main_readout, state = next(iter(parts.method.readouts())), run.sequence.state

    def log_phase(entry: PhaseAccuracy) -> None:
        run.curves.log_phase(len(state.after_phases) - 1, entry.task, entry.phase, phase_scalars(entry))
        _tell(run.display, phase_line(entry, main_readout, len(parts.scenario.tasks)))

    return log_phase


def _tell(display: Display, line: str) -> None:
    """To the console and into the run's log."""
    display.say(line)
    log.info(line, extra={"told": True})


def _idle_workers(workers: int) -> list[str]:
    """At most one line: more workers than cores."""
    cores = workers - idle_workers(workers)
    typed = f"trainer.workers={workers} on {cores} cores slows loading down: type trainer.workers={cores}"
    return [typed] if cores < workers else []
