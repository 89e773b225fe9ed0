"""Number of parameters of a network, by arithmetic on its options: no module is built for it.

A test compares each formula with the network itself, and demands one for each model and method.

Legend: N patches, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch

from cl_lightning.config.option_names import MODEL
from cl_lightning.config.schema import (
    AlexNetConfig,
    CifarResNetConfig,
    Config,
    ConViTConfig,
    ConvViTConfig,
    DAFormerConfig,
    DKTConfig,
    DyToxConfig,
    FrozenConfig,
    HATConfig,
    MEATConfig,
    MethodConfig,
    ModelConfig,
    PathNetConfig,
    RanPACConfig,
    ResNet18Config,
    TaskTransformerConfig,
    TimmBackboneConfig,
    TimmConfig,
    ViTConfig,
    ViTMethodConfig,
)
from cl_lightning.core.errors import worded
from cl_lightning.models.backbone_weights import check_pretrained
from cl_lightning.models.timm_backbone import timm_shapes
from cl_lightning.models.timm_vit import NotPlainError, open_plain_vit


@dataclass(frozen=True)
class Counts:
    """Sizes of a network in its first task, without its classifier."""

    weights: int
    """Number of learnt parameters, trained now or beforehand."""
    trained: int
    """Number of parameters that the first task trains."""
    fixed: int = 0
    """Number of values that are computed when it is built, and stay."""
    stored_per_image: int = 0
    """Lower bound of the activations of each image that the backward pass needs."""
    training_only: int = 0
    """Number of further parameters, which are dropped behind training."""
    summed: int = 0
    """Number of features whose products with each other are summed over the images (RanPAC's M)."""


@dataclass(frozen=True)
class _Trunk:
    """Sizes of a model, without its read-out."""

    weights: int
    fixed: int = 0
    dim: int = 0
    heads: int = 1
    patches: int = 0
    depth: int = 0
    hidden: int = 0
    """Width within an MLP."""


def count(config: Config, image_size: int, channels: int) -> Counts:
    """Return the sizes of the network of ``config``. Raises ``UserError`` for a model that there is not."""
    method = config.method
    with worded(MODEL):  # it is the first that looks at timm's models
        try:
            trunk = MODELS[type(config.model)](config.model, image_size, channels)
        except NotPlainError as error:
            if isinstance(method, TaskTransformerConfig | ViTMethodConfig | HATConfig):
                raise
            raise error.with_mend("take model=timm_backbone, which reads any of timm's networks") from error
    own = _class_token if trunk.patches and not _has_class_token(config) else _nothing
    read = READERS.get(type(method), own)(method, trunk)
    if isinstance(method, FrozenConfig):
        return _frozen(method, trunk, read)
    stored = trunk.depth * trunk.patches * trunk.dim
    branch = getattr(method, "reconstruction", None)
    if branch is not None:
        values = channels * (image_size // round(trunk.patches**0.5)) ** 2
        learnt = trunk.weights + read
        more = _reconstruction(trunk.dim, int(trunk.dim * branch.ffn_ratio), values)
        return Counts(learnt, learnt + more, trunk.fixed, stored, more)
    if getattr(config.model, "frozen", False) or (isinstance(method, MEATConfig) and not method.backbone_task):
        return Counts(trunk.weights + read, read, trunk.fixed)
    return Counts(trunk.weights + read, trunk.weights + read, trunk.fixed, stored)


def model_size(model: ModelConfig, image_size: int, channels: int) -> tuple[int, int]:
    """Return the number of parameters of a model without its read-out, and of the values that it computes when it is
    built. Raises ``ValueError`` for a model that there is not.
    """
    trunk = MODELS[type(model)](model, image_size, channels)
    return trunk.weights, trunk.fixed


def _has_class_token(config: Config) -> bool:
    """Return whether the transformer's own class token is read."""
    frozen = isinstance(config.method, FrozenConfig | HATConfig) and isinstance(config.model, TimmConfig)
    return frozen or isinstance(config.model, ViTConfig) or isinstance(config.method, ViTMethodConfig)


def _frozen(method: FrozenConfig, trunk: _Trunk, read: int) -> Counts:
    """Return the sizes of a network that the first task trains, or none."""
    added = trunk.depth * _adapter(trunk.dim, method.adapter_width) if method.adapt else 0
    weights = trunk.weights + read + added
    trained = weights if method.backbone_task else added
    stored = trunk.depth * trunk.patches * trunk.dim if trained else 0
    if not isinstance(method, RanPACConfig):
        return Counts(weights, trained, trunk.fixed, stored)
    fixed, summed = trunk.fixed + trunk.dim * method.projection, method.projection or trunk.dim
    return Counts(weights, trained, fixed, stored, summed=summed)


def _reconstruction(dim: int, hidden: int, values: int) -> int:
    """Return the size of a block with a token, three norms and a linear map to the values of a patch."""
    return dim + 6 * dim + 3 * dim**2 + dim**2 + dim + _mlp(dim, hidden) + (dim + 1) * values


def _adapter(dim: int, width: int) -> int:
    return 2 * dim * width + width + dim


# ---- models --------------------------------------------------------------------------------------------------------


def _mlp(dim: int, hidden: int) -> int:
    return 2 * dim * hidden + hidden + dim


def _convit(model: ConViTConfig, image_size: int, channels: int) -> _Trunk:
    patch, dim, heads = model.patch_size, model.dim, model.num_heads
    patches, hidden = (image_size // patch) ** 2, int(dim * model.mlp_ratio)
    block = 4 * dim**2 + 5 * dim + 5 * heads + _mlp(dim, hidden)
    weights = channels * patch**2 * dim + dim + patches * dim + model.depth * block
    return _Trunk(weights, 3 * model.depth * patches**2, dim, heads, patches, model.depth, hidden)


def _conv_mlp(dim: int, hidden: int) -> int:
    """Return the size of a convolutional MLP: two maps, a depthwise convolution, three batch norms."""
    return _mlp(dim, hidden) + 10 * hidden + 4 * hidden + 2 * dim


def _conv_vit(model: ConvViTConfig, image_size: int, channels: int) -> _Trunk:
    patch, dim = model.patch_size, model.dim
    patches, hidden, stem = (image_size // patch) ** 2, int(dim * model.mlp_ratio), 32
    first, last = (49, patch // 4) if patch >= 16 else (9, patch // 2)
    block = 4 * dim**2 + 8 * dim + _conv_mlp(dim, hidden)
    weights = (first * channels + 3) * stem + (stem * last**2 + 1) * dim + model.depth * block
    return _Trunk(weights + model.general_token * dim, 0, dim, model.num_heads, patches, model.depth, hidden)


def _vit(model: ViTConfig, image_size: int, channels: int) -> _Trunk:
    patch, dim = model.patch_size, model.dim
    patches, hidden = (image_size // patch) ** 2, round(dim * model.mlp_ratio)
    block = 4 * dim**2 + 8 * dim + _mlp(dim, hidden)
    weights = channels * patch**2 * dim + dim + (2 + patches) * dim + model.depth * block + 2 * dim
    return _Trunk(weights, 0, dim, model.num_heads, patches, model.depth, hidden)


def _timm(model: TimmConfig, image_size: int, channels: int) -> _Trunk:
    return _named(model.name, image_size, channels, model.patch_size)


@cache
def _named(name: str, image_size: int, channels: int, patch_size: int | None) -> _Trunk:
    """Return the sizes of one of timm's transformers, read from an instance without memory (device ``meta``)."""
    with torch.device("meta"):
        vit: Any = open_plain_vit(name, image_size, channels, patch_size, pretrained=False)
    weights = sum(parameter.numel() for parameter in vit.parameters())
    heads, hidden = vit.blocks[0].attn.num_heads, vit.blocks[0].mlp.fc1.out_features
    return _Trunk(weights, 0, vit.embed_dim, heads, vit.patch_embed.num_patches, len(vit.blocks), hidden)


def _timm_backbone(model: TimmBackboneConfig, image_size: int, channels: int) -> _Trunk:
    if model.pretrained:
        check_pretrained(model.name)
    shapes = timm_shapes(model.name, image_size, channels, model.patch_size)
    return _Trunk(shapes.weights, shapes.fixed)


def _residual_block(before: int, after: int) -> int:
    return 9 * before * after + 9 * after**2 + 4 * after


def _alexnet(model: AlexNetConfig, image_size: int, channels: int) -> _Trunk:
    widths, weights, side = (channels, *(model.width << k for k in range(3))), 0, image_size
    for (before, after), wanted in zip(pairwise(widths), (image_size // 8, image_size // 10, 2), strict=True):
        window = min(max(1, wanted), side)
        weights += (before * window**2 + 1) * after
        side = max(1, (side - window + 1) // 2)
    hidden = model.hidden
    return _Trunk(weights + (widths[-1] * side**2 + 1) * hidden + (hidden + 1) * hidden, dim=hidden)


def _cifar_resnet(model: CifarResNetConfig, image_size: int, channels: int) -> _Trunk:
    widths, blocks = (16, 16, 32, 64), (model.depth - 2) // 6
    weights = 9 * channels * 16 + 2 * 16
    for before, after in pairwise(widths):
        weights += _residual_block(before, after) + (blocks - 1) * _residual_block(after, after)
        if before != after and model.shortcut == "projection":
            weights += (before + 2) * after
    return _Trunk(weights, dim=widths[-1])


def _resnet18(model: ResNet18Config, image_size: int, channels: int) -> _Trunk:
    width = model.width
    weights = (49 if model.stem == "large" else 9) * channels * width + 2 * width
    for before, after in zip((1, 1, 2, 4), (1, 2, 4, 8), strict=True):
        shortcut = (before * width + 2) * after * width if before != after else 0
        weights += _residual_block(before * width, after * width) + _residual_block(after * width, after * width)
        weights += shortcut
    return _Trunk(weights, dim=8 * width)


def _path_net(model: PathNetConfig, image_size: int, channels: int) -> _Trunk:
    """Return the size of one path, biases of its convolutions included."""
    width, stem = model.width, 49 if model.stem == "large" else 9
    weights = (stem * channels + 3) * width
    for before, after in pairwise((1, 1, 1, 2, 2, 4, 4, 8, 8)):
        weights += _residual_block(before * width, after * width) + 2 * after * width
        weights += (9 * before * width + 3) * after * width if before != after else 0
    return _Trunk(weights, dim=8 * width)


MODELS: dict[type[ModelConfig], Callable[[Any, int, int], _Trunk]] = {
    ConViTConfig: _convit,
    ConvViTConfig: _conv_vit,
    ViTConfig: _vit,
    TimmConfig: _timm,
    TimmBackboneConfig: _timm_backbone,
    AlexNetConfig: _alexnet,
    CifarResNetConfig: _cifar_resnet,
    ResNet18Config: _resnet18,
    PathNetConfig: _path_net,
}
"""Type of a model's options -> function of the options, the side of the images and their channels."""


# ---- read-outs -----------------------------------------------------------------------------------------------------


def _nothing(method: MethodConfig, trunk: _Trunk) -> int:
    return 0


def _class_token(method: MethodConfig, trunk: _Trunk) -> int:
    """Return the size of a class token and its attention: DyTox's decoder for one task, or the read-out of a
    transformer.
    """
    dim = trunk.dim
    return 4 * dim**2 + 6 * dim + _mlp(dim, trunk.hidden)


def _dual_attention(method: DAFormerConfig, trunk: _Trunk) -> int:
    dim = trunk.dim
    bank = trunk.patches * (dim // trunk.heads + 1)
    return (3 + method.out_proj) * dim**2 + (4 + method.out_proj) * dim + _mlp(dim, trunk.hidden) + bank


def _knowledge_transfer(method: DKTConfig, trunk: _Trunk) -> int:
    """Return the size of the decoder for one task, its token included."""
    dim, mlp = trunk.dim, _conv_mlp if method.decoder_mlp == "conv" else _mlp
    return 4 * dim**2 + (6 + 3 * method.decoder_bias) * dim + mlp(dim, trunk.hidden)


def _masks(method: MEATConfig, trunk: _Trunk) -> int:
    """Return the size of the MLPs' masks, none where the first task trains the transformer; those of patches are
    few.
    """
    return 0 if method.backbone_task or not method.ffn_masks else 2 * trunk.depth * trunk.dim * trunk.hidden


READERS: dict[type, Callable[[Any, _Trunk], int]] = {
    DyToxConfig: _class_token,
    DAFormerConfig: _dual_attention,
    DKTConfig: _knowledge_transfer,
    MEATConfig: _masks,
}
"""Options of methods that add much to their model -> function of the options and the trunk."""
