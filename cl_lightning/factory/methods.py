"""The registry of methods: the only place where their names meet classes."""

from __future__ import annotations

from collections.abc import Callable

from cl_lightning.config.option_names import METHOD
from cl_lightning.config.schema import (
    BiCConfig,
    Config,
    DAFormerConfig,
    DERConfig,
    DKTConfig,
    DyToxConfig,
    E2EConfig,
    FinetuneConfig,
    HATConfig,
    ICaRLConfig,
    IndividualConfig,
    JointConfig,
    LwFConfig,
    MEATConfig,
    PODNetConfig,
    RanPACConfig,
    RPSNetConfig,
    SimpleCILConfig,
    UCIRConfig,
    WAConfig,
)
from cl_lightning.core.errors import worded
from cl_lightning.core.rng import Key
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.factory.convolutional import (
    build_bic,
    build_der,
    build_e2e,
    build_finetune,
    build_icarl,
    build_joint,
    build_lwf,
    build_podnet,
    build_rpsnet,
    build_ucir,
    build_wa,
)
from cl_lightning.factory.frozen import build_ranpac, build_simplecil
from cl_lightning.factory.hard_attention import build_hat
from cl_lightning.factory.networks import starting_weights
from cl_lightning.factory.task_transformers import build_daformer, build_dkt, build_dytox
from cl_lightning.factory.vit_methods import build_individual, build_meat
from cl_lightning.methods.base import Method

_METHODS: dict[type, Callable[[Config, Scenario, Key], Method]] = {
    DyToxConfig: build_dytox,
    DAFormerConfig: build_daformer,
    DKTConfig: build_dkt,
    FinetuneConfig: build_finetune,
    JointConfig: build_joint,
    ICaRLConfig: build_icarl,
    LwFConfig: build_lwf,
    PODNetConfig: build_podnet,
    UCIRConfig: build_ucir,
    BiCConfig: build_bic,
    RPSNetConfig: build_rpsnet,
    E2EConfig: build_e2e,
    WAConfig: build_wa,
    DERConfig: build_der,
    SimpleCILConfig: build_simplecil,
    RanPACConfig: build_ranpac,
    HATConfig: build_hat,
    MEATConfig: build_meat,
    IndividualConfig: build_individual,
}
"""Type of a method's options -> its builder."""


def build_method(config: Config, scenario: Scenario, key: Key) -> Method:
    """Return the method with its network, before the first task.

    Raises:
        NotImplementedError: the type of the method's options has no builder, which is its author's to mend.
    """
    kind = type(config.method)
    if kind not in _METHODS:
        raise NotImplementedError(f"{kind.__name__} has no builder: give it a line in _METHODS of factory/methods.py")
    with worded(METHOD):
        method = _METHODS[kind](config, scenario, key)
    method.fill = starting_weights(config, scenario)
    return method
