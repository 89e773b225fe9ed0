"""From the configuration to networks: descriptions of encoders and backbones, and networks built from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cl_lightning.config.option_names import MODEL
from cl_lightning.config.schema import (
    AlexNetConfig,
    CifarResNetConfig,
    Config,
    HATConfig,
    ResNet18Config,
    TimmBackboneConfig,
    TimmConfig,
    ViTConfig,
    ViTMethodConfig,
)
from cl_lightning.core.errors import as_user_error, worded
from cl_lightning.core.rng import Key
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.models.backbone import Backbone, Fill
from cl_lightning.models.backbone_weights import backbone_file_weights, timm_backbone_weights
from cl_lightning.models.build import Structure, build_network
from cl_lightning.models.vit_weights import timm_weights
from cl_lightning.models.weights_file import Weights

_ENCODERS = ("convit", "conv_vit", "timm_vit")
"""Kinds that turn images into patches, and are told the images' size."""
_LINEAR: Structure = {"head": "linear", "bias": True}
_NOT_DESCRIBED = ("name", "pretrained", "weights_file")
"""Options of models that say nothing about shapes."""
_BY_NAME = ("timm_vit", "timm_backbone")
"""Kinds that are timm's, by name."""
_FROM_FILE = (AlexNetConfig, CifarResNetConfig, ResNet18Config, TimmBackboneConfig, ViTConfig)


def named_network(structure: Structure, key: Key) -> Any:
    """Build a network from its description. Raises ``UserError`` for a size that it cannot have."""
    with worded(MODEL):
        return build_network(structure, key)


def encoder_structure(config: Config, scenario: Scenario) -> Structure:
    """Return the description of the encoder or backbone that ``config.model`` names."""
    options = {k: v for k, v in dataclasses.asdict(config.model).items() if k not in _NOT_DESCRIBED}
    options["channels"] = scenario.channels
    if options["kind"] in (*_ENCODERS, "timm_backbone", "plain_vit", "alexnet"):
        options["image_size"] = scenario.image_size
    if options["kind"] in _BY_NAME:
        options["name"] = config.model.name
    if options["kind"] == "timm_vit" and getattr(config.model, "pretrained", False):
        options["pretrained"] = True
    return options


def backbone_structure(config: Config, scenario: Scenario) -> Structure:
    """Return the description of a backbone; a transformer of patches alone is read by a class token behind it."""
    encoder = encoder_structure(config, scenario)
    return {"kind": "class_token", "encoder": encoder} if encoder["kind"] in _ENCODERS else encoder


def starting_weights(config: Config, scenario: Scenario) -> Fill | None:
    """Return a function that reads the weights which a backbone starts from, when it is called; None: it starts as it
    was drawn. The function raises ``UserError`` where they are not to be had, although the run has begun.

    Methods of a vision transformer read its weights themselves, some of them again for each task.
    """
    model = config.model
    if isinstance(config.method, ViTMethodConfig):
        return None
    file = model.weights_file if isinstance(model, _FROM_FILE) else None
    if file is not None:
        return lambda backbone: _fill(backbone, lambda: backbone_file_weights(Path(file), backbone))
    if isinstance(config.method, HATConfig) and isinstance(model, TimmConfig) and model.pretrained:
        of_vit = (model.name, scenario.image_size, scenario.channels, model.patch_size)
        return lambda backbone: _fill(backbone, lambda: backbone.renamed(timm_weights(*of_vit)))
    if isinstance(model, TimmBackboneConfig) and model.pretrained:
        sizes = (model.name, scenario.image_size, scenario.channels, model.patch_size)
        return lambda backbone: _fill(backbone, lambda: timm_backbone_weights(backbone, *sizes))
    return None


def _fill(backbone: Backbone, read: Callable[[], Weights]) -> None:
    with as_user_error(MODEL):
        backbone.load_state_dict(read(), strict=True)


def embedding_network(
    config: Config,
    scenario: Scenario,
    key: Key,
    *,
    head: Structure | None = None,
    backbones: Mapping[str, Structure] | None = None,
) -> Any:
    """Return a backbone with one growing classifier, without classes yet.

    Args:
        config: its model is the backbone.
        scenario: sizes of the images.
        key: of the initial weights.
        head: description of the classifier; None: linear with biases.
        backbones: kind of backbone -> options in which the method's differs from the model as it is.
    """
    backbone = backbone_structure(config, scenario)
    backbone = {**backbone, **(backbones or {}).get(backbone["kind"], {})}
    structure = {"kind": "embedding_network", "backbone": backbone, **(head or _LINEAR), "classes": []}
    return named_network(structure, key)
