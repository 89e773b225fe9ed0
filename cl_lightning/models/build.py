"""Networks from their own description: the one path on which they are made, from a configuration as from a
checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cl_lightning.models.backbone import Backbone
from cl_lightning.models.convit import ConViT
from cl_lightning.models.embedding_network import ClassTokenBackbone, EmbeddingNetwork
from cl_lightning.models.encoder import Encoder
from cl_lightning.models.extractor_network import ExtractorNetwork
from cl_lightning.models.network import Network
from cl_lightning.models.resnet import CifarResNet, ResNet18
from cl_lightning.models.timm_vit import TimmViT
from cl_lightning.models.token_network import TokenNetwork
from cl_lightning.rng import Key, torch_seeded

Structure = dict[str, Any]


def build_network(structure: Structure, key: Key) -> Network:
    """A network of the shapes that ``structure`` (``Network.structure``) describes, initialised from ``key``.

    Classes listed in it are grown one task after another, exactly as in a run; an empty list gives a network before its
    first task.
    """
    with torch_seeded(key.fold("network")):
        network = _NETWORKS[structure["kind"]](structure)
    for index in range(len(network.structure()["classes"]), len(structure["classes"])):
        network.grow(structure["classes"][index], key.fold("task", index))
    return network


def build_encoder(structure: Structure) -> Encoder:
    """A transformer encoder."""
    kinds: dict[str, Callable[..., Encoder]] = {"convit": ConViT, "timm_vit": TimmViT}
    return kinds[structure["kind"]](**_without_kind(structure))


def build_backbone(structure: Structure) -> Backbone:
    """A network from images to one vector."""
    if structure["kind"] == "class_token":
        return ClassTokenBackbone(build_encoder(structure["encoder"]))
    kinds: dict[str, Callable[..., Backbone]] = {"cifar_resnet": CifarResNet, "resnet18": ResNet18}
    return kinds[structure["kind"]](**_without_kind(structure))


def _without_kind(structure: Structure) -> Structure:
    return {key: value for key, value in structure.items() if key != "kind"}


def _token_network(structure: Structure) -> TokenNetwork:
    """A structure that does not say what grows (of an older checkpoint) means the published network."""
    return TokenNetwork(
        build_encoder(structure["encoder"]),
        diverge=structure["diverge"],
        token_expansion=structure.get("token_expansion", True),
        independent_heads=structure.get("independent_heads", True),
    )


def _extractor_network(structure: Structure) -> ExtractorNetwork:
    """From ``backbone`` (what to grow), or from the ``backbones`` that are there already."""
    if "backbones" in structure:
        backbones = [build_backbone(backbone) for backbone in structure["backbones"]]
        return ExtractorNetwork.from_parts(backbones, structure["classes"])
    return ExtractorNetwork(lambda: build_backbone(structure["backbone"]))


_NETWORKS: dict[str, Callable[[Structure], Network]] = {
    "token_network": _token_network,
    "embedding_network": lambda s: EmbeddingNetwork(build_backbone(s["backbone"]), bias=s["bias"]),
    "extractor_network": _extractor_network,
}
