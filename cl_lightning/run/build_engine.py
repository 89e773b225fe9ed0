"""From the configuration to what trains and what observes it: engine, loggers, checkpoint schedule."""

from __future__ import annotations

from pathlib import Path

import torch

from cl_lightning.checkpoint.schedule import CheckpointSchedule, NoCheckpoints
from cl_lightning.checkpoint.state import RunState
from cl_lightning.config.option_names import LOGGER
from cl_lightning.config.schema import Config, TrainerConfig
from cl_lightning.core.errors import worded
from cl_lightning.data.loading import Pipeline
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.distributed.process_group import ProcessGroup
from cl_lightning.distributed.signals import StopFlag
from cl_lightning.learning.engine import Engine, EngineOptions, Observers
from cl_lightning.learning.feature_files import FeatureFiles
from cl_lightning.learning.loggers import Curves, LoggerOptions, ResumePoint, make_curves
from cl_lightning.learning.trainer import TrainerOptions
from cl_lightning.learning.trunk_compiler import TrunkCompiler
from cl_lightning.resources.machine import machine_memory
from cl_lightning.run.process_setup import Verbosity
from cl_lightning.run.run_dir import RunDirectory

_UNKNOWN_MEMORY = 16 << 30
"""Memory of a machine that does not tell its own."""


def build_engine(
    config: Config,
    scenario: Scenario,
    pipeline: Pipeline,
    run_dir: Path,
    processes: ProcessGroup,
    observers: Observers,
) -> Engine:
    """Return the engine, on this process' device."""
    trainer = config.trainer
    options = EngineOptions(
        workers=trainer.workers,
        evaluation_batch=config.batch.evaluation,
        log_every=trainer.log_every,
        trunks=TrunkCompiler(compiles_trunks(trainer), asked_for=trainer.compile == "trunk"),
        cuda_graphs=trainer.cuda_graphs,
        features_limit=_features_limit(processes) if trainer.keep_features else 0,
        feature_files=None if trainer.features_dir is None else FeatureFiles(Path(trainer.features_dir)),
    )
    device = TrainerOptions(trainer.accelerator, trainer.precision, trainer.deterministic, run_dir, processes)
    return Engine(scenario, pipeline, device, options, observers)


def _features_limit(processes: ProcessGroup) -> int:
    """Return a process' share of a quarter of the machine's memory."""
    return (machine_memory() or _UNKNOWN_MEMORY) // (4 * processes.world_size)


def build_curves(config: Config, run_dir: Path, state: RunState, resume: bool, *, begun: bool) -> Curves:
    """Return the loggers of the run; of one that resumes from ``state``, what was logged later is removed. Until it has
    ``begun`` to learn, a run that extends another one has that one's last task at step 0.
    """
    position, tasks = state.position, len(state.records)
    logged = tasks if position.items or position.steps else tasks - 1  # at a task's end its point is still to come
    point = ResumePoint(state.steps, max(0, logged), len(state.after_phases))
    options = _logger_options(config)
    with worded(LOGGER):
        curves = make_curves(options, run_dir, point) if resume else make_curves(options, run_dir, inherited=point)
    if begun:
        curves.offset = state.step_offset
    return curves


def build_checkpoint_schedule(
    config: Config,
    run_directory: RunDirectory,
    state: RunState,
    curves: Curves,
    stop: StopFlag,
    processes: ProcessGroup,
) -> CheckpointSchedule | NoCheckpoints:
    """Return when the run's state is saved; on a process other than the main one, a schedule that never saves."""
    if not processes.is_main:
        return NoCheckpoints()

    def save() -> None:
        curves.sync()  # first: a checkpoint must not know of points that a power cut takes away
        run_directory.save_checkpoint(state)

    steps, minutes = config.trainer.checkpoint_steps, config.trainer.checkpoint_minutes
    return CheckpointSchedule(
        state, save, lambda: run_directory.position_text(state), stop, every_steps=steps, every_minutes=minutes
    )


def on_gpu(trainer: TrainerConfig) -> bool:
    """Return whether this run's networks are on a GPU."""
    return trainer.accelerator != "cpu" and torch.cuda.is_available()


def compiles_trunks(trainer: TrainerConfig) -> bool:
    """Return whether the networks' trunks are compiled: it pays within minutes on a GPU, within hours on a CPU."""
    if trainer.compile == "auto":
        return on_gpu(trainer)
    return trainer.compile == "trunk"


def _logger_options(config: Config) -> LoggerOptions:
    logger = config.logger
    group = f"{config.method.name}_{config.data.name}"
    return LoggerOptions(
        csv=logger.csv,
        wandb=logger.wandb,
        tensorboard=logger.tensorboard,
        project=logger.project,
        entity=logger.entity,
        mode=logger.mode,
        name=logger.name or f"{group}_seed{config.seed}",
        group=logger.group or group,
        quiet=config.verbose == Verbosity.QUIET,
    )
