"""Methods on a plain vision transformer that has been trained before, from the configuration to objects."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cl_lightning.config.option_names import MODEL
from cl_lightning.config.schema import (
    Config,
    IndividualConfig,
    MEATConfig,
    TimmConfig,
    ViTConfig,
    ViTMethodConfig,
)
from cl_lightning.core.errors import UserError, as_user_error, worded
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Mixing, Phase, View
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.factory.networks import encoder_structure, named_network
from cl_lightning.factory.phases import BACKBONE, MAIN, build_phase
from cl_lightning.methods import individual, meat
from cl_lightning.methods.base import Method
from cl_lightning.models.build import Structure
from cl_lightning.models.plain_vit import PlainViT, Weights
from cl_lightning.models.vit_weights import file_weights, timm_sizes, timm_weights


def build_meat(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return MEAT, or MEAT without some of its masks."""
    method = config.method
    assert isinstance(method, MEATConfig)
    vit = vit_structure(config, scenario)
    structure: Structure = {
        "kind": "masked_network",
        "vit": vit,
        "token_mask_blocks": _token_mask_blocks(method, vit["depth"]),
        "ffn_masks": method.ffn_masks,
        "plain_first": method.backbone_task,
        "temperature": method.temperature,
        "gap": 2 * method.gamma,
        "classes": [],
    }
    network: Any = named_network(structure, key)
    parts = meat.main_parts(token_masks=method.token_masks, ffn_masks=method.ffn_masks)
    main = build_phase(MAIN, method.main, config, View.NEW, parts, mixing=_mixing(method))
    # One logit stands for a keep and a drop logit that would move in opposite directions: twice the rate.
    rates = {"token_masks": 2 * method.token_rate, "ffn_masks": 2 * method.ffn_rate}
    main = dataclasses.replace(main, rates={part: rate for part, rate in rates.items() if part in parts})
    backbone = _backbone_phase(config, method, meat.BACKBONE_PARTS)
    options = meat.MEATOptions(method.keep, method.drop_weight, tuple(method.readouts))
    return meat.MEAT(network, main, backbone, options, _vit_weights(config, scenario, lambda: network.vit))


def build_individual(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return individual models: a transformer for each task."""
    method = config.method
    assert isinstance(method, IndividualConfig)
    structure = {"kind": "separate_network", "vit": vit_structure(config, scenario), "classes": []}
    network: Any = named_network(structure, key)
    main = build_phase(MAIN, method.main, config, View.NEW, individual.PARTS, mixing=_mixing(method))
    backbone = _backbone_phase(config, method, individual.PARTS)
    load = _vit_weights(config, scenario, lambda: network.transformer)
    return individual.Individual(network, main, backbone, load)


def _mixing(method: ViTMethodConfig) -> Mixing | None:
    return None if method.mixup is None else Mixing(method.mixup.alpha, method.mixup.smoothing)


def _backbone_phase(config: Config, method: ViTMethodConfig, parts: tuple[str, ...]) -> Phase | None:
    """Return the phase of the first task in which that trains the transformer, else ``None``."""
    if not method.backbone_task:
        return None
    return build_phase(BACKBONE, method.backbone, config, View.NEW, parts, mixing=_mixing(method))


def vit_structure(config: Config, scenario: Scenario) -> Structure:
    """Return the sizes of a vision transformer; its weights are loaded when the first task begins, if at all."""
    model = config.model
    assert isinstance(model, ViTConfig | TimmConfig)
    if isinstance(model, TimmConfig):
        with worded(MODEL):
            sizes = timm_sizes(model.name, scenario.image_size, scenario.channels, model.patch_size)
        return {"kind": "plain_vit", **sizes, "drop_path": model.drop_path}
    return {name: value for name, value in encoder_structure(config, scenario).items() if name != "frozen"}


def _vit_weights(config: Config, scenario: Scenario, vit: Callable[[], PlainViT]) -> Callable[[], Weights] | None:
    """Return a function that reads pretrained weights for the transformer that ``vit`` then returns, else ``None``."""
    method, model = config.method, config.model
    assert isinstance(method, ViTMethodConfig)
    file = method.backbone_file or (model.weights_file if isinstance(model, ViTConfig) else None)
    if file is not None:
        return lambda: _read_weights(lambda: file_weights(Path(file), vit()))
    if isinstance(model, TimmConfig) and model.pretrained:
        size, channels = scenario.image_size, scenario.channels
        return lambda: _read_weights(lambda: timm_weights(model.name, size, channels, model.patch_size))
    return None


def _read_weights(read: Callable[[], Weights]) -> Weights:
    """Call ``read``; raise ``UserError`` for a wrong file, although the run has begun."""
    with as_user_error(MODEL):
        return read()


def _token_mask_blocks(method: MEATConfig, depth: int) -> list[int]:
    if not method.token_masks:
        return []
    blocks = list(range(depth)) if method.token_mask_blocks == "all" else list(method.token_mask_blocks)
    if blocks[-1] >= depth:
        raise UserError(
            f"method.token_mask_blocks={blocks} names a block that is not there: "
            f"type numbers from 0 to {depth - 1}, or all"
        )
    return blocks
