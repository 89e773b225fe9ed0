"""Methods on features that are learnt once, from the configuration to objects: SimpleCIL and RanPAC.

The backbone is any that an embedding network has. A plain vision transformer is read at its own class token.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cl_lightning.config.option_names import MODEL
from cl_lightning.config.schema import Config, FrozenConfig, RanPACConfig, TimmConfig
from cl_lightning.core.errors import as_user_error
from cl_lightning.core.rng import Key
from cl_lightning.core.types import View
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.factory.networks import backbone_structure, named_network
from cl_lightning.factory.phases import BACKBONE, build_phase
from cl_lightning.factory.vit_methods import vit_structure
from cl_lightning.methods.base import Method
from cl_lightning.methods.frozen_features import ADAPTED_PARTS, MAIN_PARTS, Source
from cl_lightning.methods.ranpac import RanPAC
from cl_lightning.methods.simplecil import SimpleCIL
from cl_lightning.models.backbone import Backbone
from cl_lightning.models.build import Structure
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.vit_backbone import PlainViTBackbone
from cl_lightning.models.vit_weights import file_weights, timm_weights

_SEEDS = 1 << 32
"""Number of seeds of a projection: each is a whole number in the description of the network."""


def build_simplecil(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return SimpleCIL."""
    return SimpleCIL(_network(config, scenario, key, {"head": "mean_cosines"}), _source(config, scenario))


def build_ranpac(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return RanPAC, or ridge regression on the features as they are."""
    method = config.method
    assert isinstance(method, RanPACConfig)
    seed = key.fold("projection").value % _SEEDS
    head = {"head": "projected_ridge", "projection": method.projection, "seed": seed}
    network = _network(config, scenario, key, head)
    return RanPAC(network, _source(config, scenario), all_tasks_choose=method.ridge == "all")


def _network(config: Config, scenario: Scenario, key: Key, head: Structure) -> EmbeddingNetwork:
    method = config.method
    assert isinstance(method, FrozenConfig)
    structure: Structure = {
        "kind": "embedding_network",
        "backbone": _backbone(config, scenario),
        **head,
        "linear": method.backbone_task or method.adapt,
        **({"cosine": True} if method.adapt else {}),
        "classes": [],
    }
    network: EmbeddingNetwork = named_network(structure, key)
    return network


def _backbone(config: Config, scenario: Scenario) -> Structure:
    method = config.method
    assert isinstance(method, FrozenConfig)
    plain = (
        vit_structure(config, scenario)
        if isinstance(config.model, TimmConfig)
        else backbone_structure(config, scenario)
    )
    if not method.adapt:
        return plain
    sizes = {"width": method.adapter_width, "scale": method.adapter_scale, "dropout": method.adapter_dropout}
    return {"kind": "adapted_vit", "vit": plain, **sizes}


def _source(config: Config, scenario: Scenario) -> Source:
    """Return where the features come from: weights that are given, or the first task."""
    method = config.method
    assert isinstance(method, FrozenConfig)
    main = None
    if method.backbone_task:
        main = build_phase(BACKBONE, method.backbone, config, View.NEW, MAIN_PARTS)
    elif method.adapt:
        main = build_phase("adaptation", method.adaptation, config, View.NEW, ADAPTED_PARTS)
    return Source(main, _weights(config, scenario))


def _weights(config: Config, scenario: Scenario) -> Callable[[Backbone], None] | None:
    """Return a function that puts the weights into a plain transformer; None where none are given to one. Other
    backbones start as those of all methods do (``networks.starting_weights``).

    Raises ``UserError`` when it is called, for weights that are not the backbone's, although the run has begun.
    """
    method, model = config.method, config.model
    assert isinstance(method, FrozenConfig)
    file = method.backbone_file
    if file is not None:
        return lambda backbone: _load(backbone, file)
    if isinstance(model, TimmConfig) and model.pretrained:
        size, channels = scenario.image_size, scenario.channels
        return lambda backbone: _load_timm(backbone, model, size, channels)
    return None


def _load(backbone: Backbone, file: str) -> None:
    """Load a file of weights named as timm's."""
    assert isinstance(backbone, PlainViTBackbone)
    with as_user_error(MODEL):
        backbone.vit.load_state_dict(file_weights(Path(file), backbone.vit), strict=True)


def _load_timm(backbone: Backbone, model: TimmConfig, size: int, channels: int) -> None:
    assert isinstance(backbone, PlainViTBackbone)
    with as_user_error(MODEL):
        backbone.vit.load_state_dict(timm_weights(model.name, size, channels, model.patch_size), strict=True)
