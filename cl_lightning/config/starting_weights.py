"""Rule by which the network of a run starts from weights that were trained elsewhere."""

from __future__ import annotations

from cl_lightning.config.schema import MethodConfig, ModelConfig


def starts_trained(method: MethodConfig, model: ModelConfig) -> bool:
    """Return whether weights are given, by name or as a file."""
    files = (getattr(method, "backbone_file", None), getattr(model, "weights_file", None))
    return bool(getattr(model, "pretrained", False)) or any(file is not None for file in files)
