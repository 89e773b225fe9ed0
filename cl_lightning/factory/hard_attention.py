"""HAT, from the configuration to objects."""

from __future__ import annotations

import dataclasses
from typing import Any

from cl_lightning.config.schema import Config, HATConfig, TimmConfig
from cl_lightning.core.rng import Key
from cl_lightning.core.types import View
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.factory.networks import backbone_structure, named_network
from cl_lightning.factory.phases import MAIN, build_phase
from cl_lightning.factory.vit_methods import vit_structure
from cl_lightning.methods import hat
from cl_lightning.methods.base import Method


def build_hat(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return HAT. As published an incomplete last batch is trained on."""
    method = config.method
    assert isinstance(method, HATConfig)
    structure = {
        "kind": "hat_network",
        "backbone": (vit_structure if isinstance(config.model, TimmConfig) else backbone_structure)(config, scenario),
        "s_max": method.s_max,
        "compensation": method.compensation,
        "classes": [],
        "learnt": 0,
    }
    network: Any = named_network(structure, key)
    main = build_phase(MAIN, method.main, config, View.NEW, hat.MAIN_PARTS, gradient_norm=method.gradient_norm)
    main = dataclasses.replace(main, sampling=dataclasses.replace(main.sampling, drop_last=False))
    options = hat.HATOptions(method.usage_weight, method.embedding_limit, tuple(method.readouts))
    return hat.HAT(network, main, options)
