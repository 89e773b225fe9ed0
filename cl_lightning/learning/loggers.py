"""Curves of a whole run on one continuous axis, in a CSV file and in Weights & Biases.

Each phase has a Trainer of its own whose steps start at zero; the offset of the steps before it is added here, so that
a run reads as one.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger, WandbLogger


@dataclass(frozen=True)
class LoggerOptions:
    """Which loggers, and how a run is called in them."""

    csv: bool
    wandb: bool
    project: str
    entity: str | None
    mode: str
    name: str
    group: str


class Curves:
    """Writes scalars of the current phase at (steps of earlier phases) + (steps in this one)."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self._loggers = list(loggers)
        self.offset = 0

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """One point of each curve."""
        for logger in self._loggers:
            logger.log_metrics(dict(scalars), step=self.offset + step)

    def log_task(self, task: int, scalars: Mapping[str, float]) -> None:
        """One point of each curve over tasks; names get the prefix ``task/``."""
        point = {f"task/{name}": value for name, value in scalars.items()}
        for logger in self._loggers:
            logger.log_metrics({**point, "task/index": task}, step=self.offset)
            logger.save()

    def log_configuration(self, configuration: dict[str, Any]) -> None:
        """What the run was asked to do."""
        for logger in self._loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.config.update(configuration, allow_val_change=True)

    def close(self, ok: bool = True) -> None:
        """Flush; end the wandb run, so that a next job in this process starts its own."""
        for logger in self._loggers:
            logger.save()
            logger.finalize("success" if ok else "failed")
            if isinstance(logger, WandbLogger):
                logger.experiment.finish(exit_code=0 if ok else 1)


def make_curves(options: LoggerOptions, run_dir: Path, done: tuple[int, int] | None = None) -> Curves:
    """The loggers of a run.

    ``done`` is (steps, tasks) of a run that goes on: its CSV file is cut back to them, so that nothing is in it twice.
    The last of these tasks is to be logged again. Weights & Biases gets a second run in the same group.
    """
    loggers: list[Logger] = []
    if options.csv:
        rows = _rows_until(run_dir / "metrics.csv", *done) if done else []
        loggers.append(CSVLogger(save_dir=run_dir, name="", version="", flush_logs_every_n_steps=50))
        for row in rows:
            loggers[-1].log_metrics(row, step=int(row.pop("step")))  # type: ignore[arg-type]
    if options.wandb and options.mode != "disabled":
        loggers.append(_wandb(options, run_dir))
    return Curves(loggers)


def _rows_until(path: Path, steps: int, tasks: int) -> list[dict[str, str]]:
    """What was logged before the end of the last task done, each value as it was written."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
    return [row for row in rows if int(row["step"]) <= steps and int(row.get("task/index", -1)) < tasks - 1]


def _wandb(options: LoggerOptions, run_dir: Path) -> WandbLogger:
    import wandb

    settings = wandb.Settings(console="off", x_disable_stats=False)
    logger = WandbLogger(
        name=options.name,
        group=options.group,
        project=options.project,
        entity=options.entity,
        mode=options.mode,
        save_dir=run_dir,
        settings=settings,
    )
    try:
        run = logger.experiment
    except wandb.errors.Error as error:
        raise ValueError(f"logger=wandb cannot start: {error}; type logger.mode=offline to need no network") from error
    run.define_metric("task/index")
    run.define_metric("task/*", step_metric="task/index")
    return logger
