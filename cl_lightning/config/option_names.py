"""Names that the command line has for the arguments of the library."""

from __future__ import annotations

import dataclasses

from cl_lightning.config.schema import SetConfig
from cl_lightning.core.errors import Options

DATA = Options("data.", {"name": "data"})
MEMORY = Options("memory.", {"kind": "memory", "replicas": "batch.replicas"})
MODEL = Options("model.", {"image_size": "data.image_size", "path": "method.backbone_file"})
METHOD = Options("method.")
TRAINER = Options("trainer.")
LOGGER = Options("logger.")
LEARNT = Options("data.", {"name": "data", "root": "data.new"})
"""Names for a folder that ``learn=`` adds to a run."""
RUN = Options(
    renamed={name: f"data.{name}" for name in ("augmentation", "max_pixels", "mean", "std")}
    | {"kind": "memory", "replicas": "batch.replicas", "scope": "memory.scope", "size": "memory.size"}
)
"""Names for errors that only a whole run, or one that has begun, can meet."""

_OF_AN_ENTRY = frozenset(each.name for each in dataclasses.fields(SetConfig))


def of_entry(place: int, name: str) -> Options:
    """Return the names within entry ``place`` (from 1) of ``data.sets``, which is of the data set ``name``."""
    return dataclasses.replace(DATA, entry=f"data.sets, entry {place} ({name})", keys=_OF_AN_ENTRY)
