"""Options of a run's curves and report page, as typed dataclasses."""

from __future__ import annotations

from dataclasses import dataclass

from cl_lightning.config.schema.bounds import choice, whole
from cl_lightning.config.schema.kinds import text


@dataclass
class LoggerConfig:
    """Loggers of the curves, beside the files of the run."""

    csv: bool = True
    wandb: bool = False
    project: str = text("cl_lightning")
    entity: str | None = text(None)
    mode: str = choice("online", ("online", "offline", "disabled"))
    name: str | None = text(None)
    group: str | None = text(None)


@dataclass
class ReportConfig:
    """The page that each run writes."""

    page: bool = True
    attention: bool = False
    exemplars: int = whole(8, at_most=10_000)
