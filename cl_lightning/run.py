"""One job: from a checked configuration to the files of a run."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cl_lightning.build import build_memory, build_method, build_pipeline, build_scenario
from cl_lightning.config.schema import Config
from cl_lightning.data.scenario import Scenario
from cl_lightning.errors import told_to_user
from cl_lightning.learning.display import Display
from cl_lightning.learning.engine import Engine
from cl_lightning.learning.loggers import Curves, LoggerOptions, make_curves
from cl_lightning.learning.trainer import TrainerOptions, quieten_lightning
from cl_lightning.report.table import render_table
from cl_lightning.rng import Key
from cl_lightning.sequence import Sequence, Settings
from cl_lightning.state import RunState
from cl_lightning.writer import Writer, shown

log = logging.getLogger(__name__)


def execute(config: Config, *, resume: bool = False) -> float:
    """Learn the whole sequence, writing the run's files after every task; returns the average incremental accuracy in
    [0, 1]. With ``resume``, the run that is in ``config.run_dir`` goes on after its last finished task.
    """
    run_dir = Path(config.run_dir).resolve()
    with _job_scope(config, run_dir, resume):
        with told_to_user():
            scenario = build_scenario(config)
            key = Key(config.seed)
            method = build_method(config, scenario, key)
            sequence = Sequence(scenario, method, RunState(build_memory(config)), _settings(config, key))
            last = _last_task(config, scenario)
            legs = sequence.forecast(last)
            pipeline = build_pipeline(config, scenario, key)
            writer = Writer(config, scenario, method, run_dir)
            if resume:
                sequence.state = writer.restore()
            state, done = sequence.state, len(sequence.state.records)
            curves = make_curves(_logger_options(config), run_dir, (state.step_offset, done) if resume else None)
        display = Display([leg for leg in legs if leg.task >= done], len(scenario.tasks), config.trainer.progress)
        ok = False
        try:
            writer.start()
            for line in writer.opening_lines(done):
                _tell(display, line)
            curves.log_configuration(dataclasses.asdict(config))
            if done:
                curves.offset = state.step_offset
                results = _log_task(writer, state, curves)
            engine = _engine(config, scenario, pipeline, run_dir, display, curves)
            for task in sequence.run(engine, display, curves) if done <= last else ():
                writer.checkpoint(state)
                results = _log_task(writer, state, curves)
                _tell(display, _task_line(results, len(scenario.tasks)))
                if task.index == last:
                    break
            ok = True
        finally:
            display.close()
            curves.close(ok)
        sys.stdout.write(render_table(results, str(shown(run_dir)), width=100) + "\n")
    return float(results["average_incremental_accuracy"])


def _settings(config: Config, key: Key) -> Settings:
    return Settings(key, config.batch.size or 1, config.batch.replicas or 1, config.data.flip)


def _last_task(config: Config, scenario: Scenario) -> int:
    """The task after which the run ends."""
    last = config.trainer.stop_after_task
    if last is not None and last >= len(scenario.tasks):
        raise ValueError(
            f"trainer.stop_after_task={last} is not among the {len(scenario.tasks)} tasks: "
            f"type trainer.stop_after_task=0 to {len(scenario.tasks) - 1}, or null"
        )
    return len(scenario.tasks) - 1 if last is None else last


def _log_task(writer: Writer, state: RunState, curves: Curves) -> dict[str, Any]:
    """Results and a point of the curves for the last task done."""
    results = writer.results(state)
    curves.log_task(state.records[-1].index, _task_scalars(results))
    return results


def _tell(display: Display, line: str) -> None:
    """To the console and into the run's log."""
    display.say(line)
    log.info(line)


def _engine(
    config: Config, scenario: Scenario, pipeline: Any, run_dir: Path, display: Display, curves: Curves
) -> Engine:
    trainer = config.trainer
    options = TrainerOptions(trainer.accelerator, trainer.precision or "32-true", trainer.deterministic, run_dir)
    return Engine(
        scenario,
        pipeline,
        options,
        workers=trainer.workers,
        evaluation_batch=config.batch.evaluation,
        log_every=trainer.log_every,
        display=display,
        curves=curves,
    )


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
    )


def _task_scalars(results: dict[str, Any]) -> dict[str, float]:
    last = results["tasks"][-1]
    scalars = {
        "accuracy": results["last_accuracy"],
        "average_incremental_accuracy": results["average_incremental_accuracy"],
    }
    for name in ("forgetting", "backward_transfer"):
        if results[name] is not None:
            scalars[name] = results[name]
    for protocol_name, readouts in last["accuracy"].items():
        scalars |= {f"accuracy/{protocol_name}/{readout}": value for readout, value in readouts.items()}
    return scalars


def _task_line(results: dict[str, Any], num_tasks: int) -> str:
    done = len(results["tasks"])
    return f"after task {done}/{num_tasks}: {100 * results['last_accuracy']:.1f} % of all classes seen so far"


@contextmanager
def _job_scope(config: Config, run_dir: Path, resume: bool) -> Iterator[None]:
    """What one job of a multirun changes in this process is undone for the next: log file, warnings, threads,
    environment.
    """
    with told_to_user():
        if (run_dir / "results.json").exists() and not resume:
            raise ValueError(
                f"run_dir={run_dir} holds a run already: type resume={shown(run_dir)} to go on with it, or another "
                "run_dir"
            )
        if config.trainer.accelerator == "gpu" and not torch.cuda.is_available():
            raise ValueError("trainer.accelerator=gpu, but torch finds no GPU here: type trainer.accelerator=cpu")
        run_dir.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(run_dir / "run.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root, level, threads, environment = (
        logging.getLogger(),
        logging.getLogger().level,
        torch.get_num_threads(),
        dict(os.environ),
    )
    console = logging.StreamHandler(sys.stderr)  # what is ignored must be seen
    console.setLevel(logging.WARNING)
    console.setFormatter(logging.Formatter("warning: %(message)s"))
    package = logging.getLogger("cl_lightning")
    root.addHandler(handler)
    package.addHandler(console)
    root.setLevel(logging.INFO)
    if config.trainer.threads is not None:
        torch.set_num_threads(config.trainer.threads)
    try:
        with warnings.catch_warnings():
            quieten_lightning()
            yield
    except Exception:
        package.removeHandler(console)
        log.exception("the run ended with an error")
        raise
    finally:
        root.removeHandler(handler)
        package.removeHandler(console)
        handler.close()
        root.setLevel(level)
        torch.set_num_threads(threads)
        os.environ.clear()
        os.environ.update(environment)
