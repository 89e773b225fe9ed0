"""The published curve that a run's page draws beside its own.

It is looked up once, where the configuration is composed and before anything is trained: its own configuration has to
be composed too before its protocol can be compared, and nothing in a run uses Hydra.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator

from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.config.identity import differences, numeric_settings
from cl_lightning.config.schema import Config
from cl_lightning.published.tables import Job, Table, load_table, table_names
from cl_lightning.report.data import Published

log = logging.getLogger(__name__)


def published_curve(config: Config) -> Published | None:
    """Return the first published curve of the very protocol of ``config``, whatever its seed and class order.

    An error is logged and does not stop the run.
    """
    try:
        return _matching_curve(config)
    except Exception as error:
        log.warning("the report will have no published curve (%s)", error)
        log.debug("the published curve", exc_info=True)
        return None


def _matching_curve(config: Config) -> Published | None:
    made = numeric_settings(dataclasses.asdict(config))
    for table, job in _candidates(config):
        cell = table.rows[job.row].cells[job.column]
        wanted = numeric_settings(dataclasses.asdict(compose_one_of_many([f"run_dir={job.path}", *job.overrides])[0]))
        differing = [line for line in differences(made, wanted) if not line.startswith(("seed=", "data.order="))]
        if not differing:
            return Published(table.rows[job.row].title, cell.curve_source, cell.curve)
    return None


def _candidates(config: Config) -> Iterator[tuple[Table, Job]]:
    """Yield cells with a curve, of the same method and data: to compose the configuration of each takes a moment."""
    for name in table_names():
        table = load_table(name)
        seen = set()
        for job in table.jobs():
            with_curve = bool(table.rows[job.row].cells[job.column].curve)
            same = f"method={config.method.name}" in job.overrides and any(
                override.startswith(f"data={config.data.name}") for override in job.overrides
            )
            if with_curve and same and (job.row, job.column) not in seen:
                seen.add((job.row, job.column))
                yield table, job
