"""Factory of networks from their own description: the one path for configurations and for checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from cl_lightning.core.missing_keys import EMBEDDING_NETWORK, TOKEN_NETWORK, complete
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.adapters import AdaptedViTBackbone
from cl_lightning.models.alexnet import AlexNet
from cl_lightning.models.allocated_head import AllocatedLinear
from cl_lightning.models.backbone import Backbone
from cl_lightning.models.bias_correction import BiasCorrectedLinear
from cl_lightning.models.conv_vit import ConvViT
from cl_lightning.models.convit import ConViT
from cl_lightning.models.dual_attention import DualAttentionBlock
from cl_lightning.models.duplex_head import DuplexHead
from cl_lightning.models.embedding_network import ClassTokenBackbone, EmbeddingNetwork
from cl_lightning.models.encoder import Encoder
from cl_lightning.models.extractor_network import ExtractorNetwork
from cl_lightning.models.frozen_heads import MeanCosines, ProjectedRidge
from cl_lightning.models.hat_network import HatNetwork
from cl_lightning.models.heads import (
    CosineByTask,
    GrowingClassifier,
    GrowingLinear,
    IndependentHeads,
    JointHead,
    LinearByTask,
    TaskClassifier,
)
from cl_lightning.models.knowledge_transfer import KnowledgeTransferBlock
from cl_lightning.models.masked_network import MaskedNetwork
from cl_lightning.models.network import Network
from cl_lightning.models.path_network import PathBackbone
from cl_lightning.models.plain_vit import PlainViT
from cl_lightning.models.proxies import ProxiesByTask
from cl_lightning.models.prunable_resnet import PrunableResNet
from cl_lightning.models.reconstruction import Reconstruction
from cl_lightning.models.resnet import CifarResNet, ResNet18
from cl_lightning.models.separate_network import SeparateNetwork
from cl_lightning.models.task_attention import TaskAttentionBlock
from cl_lightning.models.task_decoder import TaskDecoder
from cl_lightning.models.task_network import RECONSTRUCTION, TaskNetwork
from cl_lightning.models.timm_backbone import TimmBackbone
from cl_lightning.models.timm_vit import TimmViT
from cl_lightning.models.vit_backbone import PlainViTBackbone

Structure = dict[str, Any]


def build_network(structure: Structure, key: Key) -> Network:
    """Build a network of the shapes that ``structure`` (``Network.structure``) describes, initialised from ``key``.

    Classes listed in it are grown one task after another, exactly as in a run; an empty list gives a network before its
    first task.
    """
    with torch_seeded(key.fold("network")):
        network = _NETWORKS[structure["kind"]](structure)
    for index in range(len(network.structure()["classes"]), len(structure["classes"])):
        network.grow(structure["classes"][index], key.fold("task", index))
    return network


def build_encoder(structure: Structure) -> Encoder:
    """Build a transformer encoder."""
    kinds: dict[str, Callable[..., Encoder]] = {"convit": ConViT, "conv_vit": ConvViT, "timm_vit": TimmViT}
    return kinds[structure["kind"]](**_without_kind(structure))


def build_backbone(structure: Structure) -> Backbone:
    """Build a network from images to one vector."""
    if structure["kind"] == "class_token":
        return ClassTokenBackbone(build_encoder(structure["encoder"]))
    if structure["kind"] == "prunable_resnet":
        dense = partial(build_backbone, structure["backbone"])
        return PrunableResNet(dense, s_max=structure["s_max"], kept=structure["kept"])
    kinds: dict[str, Callable[..., Backbone]] = {
        "cifar_resnet": CifarResNet,
        "resnet18": ResNet18,
        "alexnet": AlexNet,
        "path_net": PathBackbone,
        "timm_backbone": TimmBackbone,
        "plain_vit": PlainViTBackbone,
        "adapted_vit": AdaptedViTBackbone,
    }
    return kinds[structure["kind"]](**_without_kind(structure))


def _without_kind(structure: Structure) -> Structure:
    return {key: value for key, value in structure.items() if key != "kind"}


def build_decoder(structure: Structure, encoder: Encoder) -> TaskDecoder:
    """Build the decoder that reads the patches of ``encoder`` for each task."""
    options, sizes = _without_kind(structure), (encoder.dim, encoder.num_heads)
    kinds: dict[str, Callable[[], TaskDecoder]] = {
        "task_attention": lambda: TaskAttentionBlock(*sizes, encoder.mlp_ratio, **options),
        "knowledge_transfer": lambda: KnowledgeTransferBlock(*sizes, encoder.mlp_ratio, **options),
        "dual_attention": lambda: DualAttentionBlock(*sizes, encoder.num_patches, encoder.mlp_ratio, **options),
    }
    return kinds[structure["kind"]]()


def build_classifier(structure: Structure, dim: int, decoder: TaskDecoder) -> TaskClassifier:
    """Build the classifier of the embeddings, of width ``dim``, that ``decoder`` makes."""
    grows = decoder.expansion and decoder.embeds_each
    kinds: dict[str, Callable[[], TaskClassifier]] = {
        "independent": lambda: IndependentHeads(dim),
        "joint": lambda: JointHead(dim, input_grows=grows),
        "duplex": lambda: DuplexHead(dim, merge=structure["merge"]),
    }
    return kinds[structure["kind"]]()


def _task_network(structure: Structure) -> TaskNetwork:
    encoder = build_encoder(structure["encoder"])
    decoder = build_decoder(structure["decoder"], encoder)
    classifier = build_classifier(_classifier(structure), encoder.dim, decoder)
    branch = structure.get(RECONSTRUCTION)
    reconstruction = None if branch is None else build_reconstruction(branch, encoder)
    return TaskNetwork(encoder, decoder, classifier, diverge=structure["diverge"], reconstruction=reconstruction)


def build_reconstruction(structure: Structure, encoder: Encoder) -> Reconstruction:
    """Build the branch that reconstructs patches of ``encoder``: last of a network, so that it moves no other draw."""
    values = encoder.structure()["channels"] * encoder.patch_size**2
    sizes: Structure = {"dim": encoder.dim, "num_heads": encoder.num_heads, "num_patches": encoder.num_patches}
    return Reconstruction(**sizes, values=values, **structure)


def _classifier(structure: Structure) -> Structure:
    """Return the description of the classifier, which once was whether heads are independent."""
    if "classifier" in structure:
        described: Structure = structure["classifier"]
        return described
    return {"kind": "independent" if structure["independent_heads"] else "joint"}


def _token_network(structure: Structure) -> TaskNetwork:
    """Build DyTox's network from the description that it had before there were other decoders."""
    known = complete(structure, TOKEN_NETWORK)
    decoder = {"kind": "task_attention", "expansion": known["token_expansion"]}
    return _task_network({**known, "decoder": decoder})


def _embedding_network(structure: Structure) -> EmbeddingNetwork:
    known = complete(structure, EMBEDDING_NETWORK)
    backbone = build_backbone(known["backbone"])
    heads: dict[str, Callable[[], GrowingClassifier]] = {
        "linear": lambda: GrowingLinear(backbone.dim, bias=known["bias"]),
        "linear_by_task": lambda: LinearByTask(backbone.dim, bias=known["bias"]),
        "bias_corrected": lambda: BiasCorrectedLinear(backbone.dim, every=known["every_pair"]),
        "allocated": lambda: AllocatedLinear(backbone.dim, known["outputs"]),
        "cosine_by_task": lambda: CosineByTask(backbone.dim),
        "proxies_by_task": lambda: ProxiesByTask(backbone.dim, known["proxies"]),
        "mean_cosines": lambda: MeanCosines(backbone.dim, linear=known["linear"], cosine=known.get("cosine", False)),
        "projected_ridge": lambda: ProjectedRidge(
            backbone.dim,
            known["projection"],
            known["seed"],
            linear=known["linear"],
            cosine=known.get("cosine", False),
        ),
    }
    return EmbeddingNetwork(backbone, head=heads[known["head"]]())


def _extractor_network(structure: Structure) -> ExtractorNetwork:
    """Build from ``backbone`` (the extractor to grow), or from the existing ``backbones``."""
    if "backbones" in structure:
        backbones = [build_backbone(backbone) for backbone in structure["backbones"]]
        return ExtractorNetwork.from_parts(backbones, structure["classes"])
    return ExtractorNetwork(lambda: build_backbone(structure["backbone"]))


def _masked_network(structure: Structure) -> MaskedNetwork:
    """Build with the packed tasks; one that is still open is grown by :func:`build_network`."""
    options = {key: value for key, value in structure.items() if key not in ("kind", "vit", "classes", "packed")}
    network = MaskedNetwork(PlainViT(**_without_kind(structure["vit"])), **options)
    for size in structure["classes"][: structure.get("packed", 0)]:
        network.grow(size, Key(0))
        network.pack()
    return network


def _hat_network(structure: Structure) -> HatNetwork:
    backbone = build_backbone(structure["backbone"])
    network = HatNetwork(backbone, s_max=structure["s_max"], compensation=structure["compensation"])
    network.learnt = structure.get("learnt", 0)
    return network


_NETWORKS: dict[str, Callable[[Structure], Network]] = {
    "task_network": _task_network,
    "token_network": _token_network,
    "embedding_network": _embedding_network,
    "extractor_network": _extractor_network,
    "masked_network": _masked_network,
    "hat_network": _hat_network,
    "separate_network": lambda s: SeparateNetwork(PlainViT(**_without_kind(s["vit"]))),
}
