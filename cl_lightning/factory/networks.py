"""From the configuration to networks: descriptions of encoders and backbones, and networks built from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from cl_lightning.config.option_names import MODEL
from cl_lightning.config.schema import Config
from cl_lightning.core.errors import worded
from cl_lightning.core.rng import Key
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.models.build import Structure, build_network

_ENCODERS = ("convit", "conv_vit", "timm_vit")
"""Kinds that turn images into patches, and are told the images' size."""
_LINEAR: Structure = {"head": "linear", "bias": True}


def named_network(structure: Structure, key: Key) -> Any:
    """Build a network from its description. Raises ``UserError`` for a size that it cannot have."""
    with worded(MODEL):
        return build_network(structure, key)


def encoder_structure(config: Config, scenario: Scenario) -> Structure:
    """Return the description of the encoder or backbone that ``config.model`` names."""
    options = {k: v for k, v in dataclasses.asdict(config.model).items() if k not in ("name", "pretrained")}
    options["channels"] = scenario.channels
    if options["kind"] in _ENCODERS:
        options["image_size"] = scenario.image_size
    if options["kind"] == "timm_vit":
        options["name"] = config.model.name
    if getattr(config.model, "pretrained", False):
        options["pretrained"] = True
    return options


def backbone_structure(config: Config, scenario: Scenario) -> Structure:
    """Return the description of a backbone; a transformer is read at its class token."""
    encoder = encoder_structure(config, scenario)
    return {"kind": "class_token", "encoder": encoder} if encoder["kind"] in _ENCODERS else encoder


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
