"""The label of a run, from its configuration: what its method is beside the paper that it is named after."""

from __future__ import annotations

from cl_lightning.config.schema import Config, DERConfig
from cl_lightning.core.origins import ADAPTATION, origin_of_run


def origin_of(config: Config) -> str:
    """Return the label of a filled-in configuration, one of ``core.origins.ORIGINS``."""
    method = config.method
    rebuilt = getattr(method, "reconstruction", None) is not None  # DRDN's branch
    of_method = method.origin
    if isinstance(method, DERConfig):
        ours = method.kd_weight > 0 or (method.pruning is not None and method.pruning.rule != "masks")
        of_method = ADAPTATION if ours else of_method
        rebuilt = method.pruning is not None and not ours  # the paper's, which no public code has
    return origin_of_run(of_method, method.encoder, config.model.encoder, rebuilt=rebuilt)
