"""The data of a table's runs, read once before the first run: what is missing is one error, not one for each."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from cl_lightning.config.schema import Config, DataConfig


def check_data(configs: Iterable[Config]) -> None:
    """Read the data of each configuration, equal ones once. Raises ``UserError`` as a run does."""
    from cl_lightning.factory.data import build_scenario  # heavy

    checked = set()
    for config in configs:
        if _read_by(config.data) not in checked:
            checked.add(_read_by(config.data))
            with _told():
                build_scenario(config)


def _read_by(data: DataConfig) -> tuple[tuple[str, str | None], ...]:
    return (data.name, data.root), *((entry.name, entry.root) for entry in data.sets)


@contextmanager
def _told() -> Iterator[None]:
    """Print what the readers say: a download, or reading a million pictures, takes its time."""
    log, handler = logging.getLogger("cl_lightning.data"), logging.StreamHandler(sys.stderr)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)
