"""The label of a run, from its configuration: what its method is beside the paper that it is named after."""

from __future__ import annotations

from cl_lightning.config.schema import Config
from cl_lightning.core.origins import origin_of_run


def origin_of(config: Config) -> str:
    """Return the label of a filled-in configuration, one of ``core.origins.ORIGINS``."""
    rebuilt = getattr(config.method, "reconstruction", None) is not None  # DRDN's branch
    return origin_of_run(config.method.origin, config.method.encoder, config.model.encoder, rebuilt=rebuilt)
