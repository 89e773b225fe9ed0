"""Options of a run's curves and report page, as typed dataclasses."""

from __future__ import annotations

from dataclasses import dataclass

from cl_lightning.config.schema.bounds import choice, whole
from cl_lightning.config.schema.path_options import text


@dataclass(kw_only=True)
class LoggerConfig:
    """Loggers of the curves, beside the files of the run."""

    csv: bool
    wandb: bool
    tensorboard: bool
    project: str = text()
    entity: str | None = text()
    mode: str = choice(("online", "offline", "disabled"))
    name: str | None = text()
    group: str | None = text()


@dataclass(kw_only=True)
class ReportConfig:
    """The page that each run writes."""

    page: bool
    attention: bool
    exemplars: int = whole(at_most=10_000)
