"""Options of early stopping, as a typed dataclass; what each means stands beside it in ``conf/config.yaml``."""

from __future__ import annotations

from dataclasses import dataclass

from cl_lightning.config.schema.bounds import choice, number, whole

MONITORS = ("accuracy", "loss")


@dataclass(kw_only=True)
class EarlyStoppingConfig:
    """The end of a phase that no longer gets better, judged by images that were set aside."""

    patience: int | None = whole(at_least=1)
    monitor: str = choice(MONITORS)
    min_delta: float = number()
    allow_unfinished_schedule: bool
