"""Names that a command line has for the arguments of the library."""

from __future__ import annotations

import dataclasses

from cl_lightning.config.schema import SetConfig
from cl_lightning.errors import Options

DATA = Options("data.", {"name": "data"})
MEMORY = Options("memory.", {"kind": "memory.budget", "replicas": "batch.replicas"})
MODEL = Options("model.", {"image_size": "data.image_size", "path": "method.backbone_file"})
WORKERS = Options("trainer.", {"batch_size": "batch.size", "evaluation_batch": "batch.evaluation"})
LOGGER = Options("logger.", {"logger": "logger"})
LEARNT = Options("data.", {"name": "data", "root": "data.new"})
"""Of a folder that ``learn=`` adds to a run."""
WHILE_TRAINING = Options(
    renamed={name: f"data.{name}" for name in ("max_pixels", "mean", "std", "augmentation")}
    | {name: f"memory.{name}" for name in ("size", "scope")}
)
"""Of what only fails when it is wanted."""

_OF_AN_ENTRY = frozenset(each.name for each in dataclasses.fields(SetConfig))


def of_entry(place: int, name: str) -> Options:
    """Return the names within entry ``place`` (from 1) of ``data.sets``, which is of the data set ``name``."""
    return dataclasses.replace(DATA, entry=f"data.sets, entry {place} ({name})", keys=_OF_AN_ENTRY)
