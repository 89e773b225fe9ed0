"""The registry of schemas: the type that the options of a Hydra group start from, made known to Hydra."""

from __future__ import annotations

from functools import cache

from hydra.core.config_store import ConfigStore

from cl_lightning.config.hydra_internals import keep_types_apart
from cl_lightning.config.schema import (
    AlexNetConfig,
    BiCConfig,
    CifarResNetConfig,
    Config,
    ConViTConfig,
    ConvViTConfig,
    DAFormerConfig,
    DataConfig,
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
    MemoryConfig,
    ModelConfig,
    PathNetConfig,
    PODNetConfig,
    RanPACConfig,
    RecipeConfig,
    ResNet18Config,
    RPSNetConfig,
    SimpleCILConfig,
    TimmBackboneConfig,
    TimmConfig,
    TrainerConfig,
    UCIRConfig,
    ViTConfig,
    WAConfig,
)
from cl_lightning.config.schema.open_options import opened
from cl_lightning.config.schema.outputs import LoggerConfig

SCHEMAS: dict[str, dict[str, type]] = {
    "method": {
        "dytox": DyToxConfig,
        "daformer": DAFormerConfig,
        "dkt": DKTConfig,
        "finetune": FinetuneConfig,
        "joint": JointConfig,
        "icarl": ICaRLConfig,
        "lwf": LwFConfig,
        "podnet": PODNetConfig,
        "ucir": UCIRConfig,
        "bic": BiCConfig,
        "rpsnet": RPSNetConfig,
        "e2e": E2EConfig,
        "wa": WAConfig,
        "der": DERConfig,
        "simplecil": SimpleCILConfig,
        "ranpac": RanPACConfig,
        "hat": HATConfig,
        "meat": MEATConfig,
        "individual": IndividualConfig,
    },
    "data": {"data": DataConfig},
    "model": {
        "auto": ModelConfig,
        "convit": ConViTConfig,
        "conv_vit": ConvViTConfig,
        "timm": TimmConfig,
        "timm_backbone": TimmBackboneConfig,
        "vit": ViTConfig,
        "alexnet": AlexNetConfig,
        "cifar_resnet": CifarResNetConfig,
        "resnet18": ResNet18Config,
        "path_net": PathNetConfig,
    },
    "memory": {"memory": MemoryConfig},
    "recipe": {"recipe": RecipeConfig},
    "trainer": {"trainer": TrainerConfig},
    "logger": {"logger": LoggerConfig},
}
"""Hydra group -> name -> type; the YAML files of a group start from ``<group>/schema_<name>``."""


@cache
def register() -> None:
    """Make the types known to Hydra, once."""
    store = ConfigStore.instance()
    keep_types_apart("schema_")
    store.store(name="schema_config", node=opened(Config))
    for group, schemas in SCHEMAS.items():
        for name, schema in schemas.items():
            store.store(group=group, name=f"schema_{name}", node=opened(schema))
