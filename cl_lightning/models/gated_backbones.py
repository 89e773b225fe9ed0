"""Backbones whose units can be masked: where masks stand in them, and between which of them each weight stands.

Hard attention (``models/hard_attention.py``) needs three things of a network: the number of units of each masked layer,
a pass with a mask for each of them, and the place of each parameter between two masked layers. For HAT's own network
they are the authors'; for residual networks and for transformers they are ours, chosen so that a unit which an older
task does not use (mask zero) reaches nothing that this task computes, and one that it uses (mask one) computes the same
from then on:

- **AlexNet**: the outputs of each of the five layers, as published;
- **ResNets**: the outputs of the stem, of each block's first convolution (behind norm and ReLU), and of each block's
  sum. The stream is masked by every block anew, so that a shortcut carries open channels alone;
- **plain transformers**: the channels of the stream (one mask for all blocks: what is embedded, what a branch adds, and
  what a norm returns), the heads of each attention, and the hidden units of each MLP.

Norms mix the units of a layer, or all images of a batch: they are no part of what is spared, and a task has its own
(:func:`own_norms`).

Legend: B batch, D width, n tokens, H heads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.models.alexnet import AlexNet
from cl_lightning.models.attention import attend
from cl_lightning.models.backbone import Backbone
from cl_lightning.models.hard_attention import Between
from cl_lightning.models.layers import residual, split_heads
from cl_lightning.models.plain_vit import Block
from cl_lightning.models.resnet import BasicBlock, CifarResNet, ResNet18
from cl_lightning.models.tensor_types import Images, Noise
from cl_lightning.models.vit_backbone import PlainViTBackbone

Gates = Sequence[Float[Tensor, " _units"]]
"""A mask for the units of each masked layer."""
_KEPT = ("weight", "bias", "running_mean", "running_var")
"""Parameters and buffers that a norm computes with in evaluation mode."""


class GatedBackbone(nn.Module, ABC):
    """A backbone with masked layers."""

    backbone: Backbone
    units: list[int]
    """Number of units of each masked layer."""

    @abstractmethod
    def forward(self, images: Images, gates: Gates, noise: Noise | None = None) -> Float[Tensor, "B D"]:
        """Embed images with the units of each layer times a mask; ``noise`` is the backbone's own."""

    @abstractmethod
    def places(self) -> dict[str, Between]:
        """Return the place between masked layers of each parameter that tasks share, by its name in this module."""


def own_norms(body: GatedBackbone) -> list[str]:
    """Return the names of what each task has of its own: weights, biases and statistics of all norms."""
    return [
        f"{name}.{each}"
        for name, module in body.named_modules()
        if isinstance(module, _BatchNorm | nn.LayerNorm)
        for each in _KEPT
        if getattr(module, each, None) is not None
    ]


class GatedAlexNet(GatedBackbone):
    """HAT's own network: a mask behind each layer."""

    def __init__(self, backbone: AlexNet) -> None:
        super().__init__()
        self.backbone: AlexNet = backbone
        convolutions, layers = backbone.convolutions, backbone.layers
        self.units = [len(layer.weight) for layer in (*convolutions, *layers)]

    def forward(self, images: Images, gates: Gates, noise: Noise | None = None) -> Float[Tensor, "B D"]:
        """Embed images."""
        x = images
        for index, mask in enumerate(gates):
            x = _of_channels(self.backbone.layer(index, x, None if noise is None else noise[0]), mask)
        return x

    def places(self) -> dict[str, Between]:
        """Return the public code's: a channel's mask is repeated over its positions in the first connected layer."""
        found, convolutions = {}, len(self.backbone.convolutions)
        for index in range(self.backbone.depth):
            first = index == convolutions
            name = f"convolutions.{index}" if index < convolutions else f"layers.{index - convolutions}"
            columns = self.backbone.positions if first else 1
            into = index - 1 if index else None
            found[f"backbone.{name}.weight"] = Between(index, into, into_columns=columns)
            found[f"backbone.{name}.bias"] = Between(index)
        return found


class GatedResNet(GatedBackbone):
    """A ResNet with masks behind its stem, within each block and behind each block's sum."""

    def __init__(self, backbone: CifarResNet | ResNet18) -> None:
        super().__init__()
        self.backbone: CifarResNet | ResNet18 = backbone
        self._chain = [name for name, module in backbone.named_modules() if isinstance(module, BasicBlock)]
        inner = [block.conv1.out_channels for block in self._blocks() for _ in range(2)]
        self.units = [backbone.conv.out_channels, *inner]

    def _blocks(self) -> list[BasicBlock]:
        return [self.backbone.get_submodule(name) for name in self._chain]  # type: ignore[misc]

    def forward(self, images: Images, gates: Gates, noise: Noise | None = None) -> Float[Tensor, "B D"]:
        """Embed images."""
        net = self.backbone
        x = _of_channels(net.pool(F.relu(net.norm(net.conv(images)))), gates[0])
        for k, block in enumerate(self._blocks()):
            branch = _of_channels(F.relu(block.norm1(block.conv1(x))), gates[2 * k + 1])
            total = block.norm2(block.conv2(branch)) + block.shortcut(x)
            x = _of_channels(F.relu(total) if block.relu else total, gates[2 * k + 2])
        return x.mean(dim=(2, 3))

    def places(self) -> dict[str, Between]:
        """Return the convolutions' places; a projection stands between the streams of two blocks."""
        found = {"backbone.conv.weight": Between(0)}
        for k, name in enumerate(self._chain):
            stream, inner, after = 2 * k, 2 * k + 1, 2 * k + 2
            found[f"backbone.{name}.conv1.weight"] = Between(inner, stream)
            found[f"backbone.{name}.conv2.weight"] = Between(after, inner)
            if isinstance(self._blocks()[k].shortcut, nn.Sequential):
                found[f"backbone.{name}.shortcut.0.weight"] = Between(after, stream)
        return found


class GatedViT(GatedBackbone):
    """A plain vision transformer with masks of the stream, of heads, and of the MLPs' hidden units."""

    def __init__(self, backbone: PlainViTBackbone) -> None:
        super().__init__()
        self.backbone: PlainViTBackbone = backbone
        self.units = [backbone.dim]
        for block in backbone.vit.layers():
            self.units += [block.attn.num_heads, block.mlp.fc1.out_features]

    def forward(self, images: Images, gates: Gates, noise: Noise | None = None) -> Float[Tensor, "B D"]:
        """Embed images; ``noise`` is stochastic depth's."""
        vit, stream = self.backbone.vit, gates[0]
        patches_BND = vit.patch_embed(images)
        x_BnD = torch.cat([vit.cls_token.expand(len(images), -1, -1), patches_BND], dim=1) + vit.pos_embed
        x_BnD = x_BnD * stream
        for k, block in enumerate(vit.layers()):
            scales = (None, None) if noise is None else (noise[2 * k], noise[2 * k + 1])
            attended = _attention(block, block.norm1(x_BnD) * stream, gates[2 * k + 1])
            x_BnD = residual(x_BnD, attended * stream, scales[0])
            hidden = F.gelu(block.mlp.fc1(block.norm2(x_BnD) * stream)) * gates[2 * k + 2]
            x_BnD = residual(x_BnD, block.mlp.fc2(hidden) * stream, scales[1])
        return vit.norm(x_BnD[:, 0]) * stream

    def places(self) -> dict[str, Between]:
        """Return the places of embeddings, attention and MLPs."""
        vit = self.backbone.vit
        found = {
            "backbone.vit.cls_token": Between(0, axis=-1),
            "backbone.vit.pos_embed": Between(0, axis=-1),
            "backbone.vit.patch_embed.proj.weight": Between(0),
            "backbone.vit.patch_embed.proj.bias": Between(0),
        }
        for k, block in enumerate(vit.layers()):
            heads, hidden, each = 2 * k + 1, 2 * k + 2, vit.dim // block.attn.num_heads
            name = f"backbone.vit.blocks.{k}"
            found[f"{name}.attn.qkv.weight"] = Between(heads, 0, out_rows=each, out_times=3)
            found[f"{name}.attn.qkv.bias"] = Between(heads, out_rows=each, out_times=3)
            found[f"{name}.attn.proj.weight"] = Between(0, heads, into_columns=each)
            found[f"{name}.attn.proj.bias"] = Between(0)
            found[f"{name}.mlp.fc1.weight"] = Between(hidden, 0)
            found[f"{name}.mlp.fc1.bias"] = Between(hidden)
            found[f"{name}.mlp.fc2.weight"] = Between(0, hidden)
            found[f"{name}.mlp.fc2.bias"] = Between(0)
        return found


def _attention(block: Block, x_BnD: Float[Tensor, "B n D"], heads_H: Float[Tensor, " H"]) -> Float[Tensor, "B n D"]:
    q, k, v = (split_heads(each, block.attn.num_heads) for each in block.attn.qkv(x_BnD).chunk(3, dim=-1))
    mixed_BHnE = attend(q, k, v, mask=None) * heads_H[:, None, None]
    return block.attn.proj(mixed_BHnE.transpose(1, 2).flatten(2))


def _of_channels(x: Float[Tensor, "B units *rest"], mask: Float[Tensor, " units"]) -> Float[Tensor, "B units *rest"]:
    return x * mask.view(-1, *[1] * (x.ndim - 2))


def gated(backbone: Backbone) -> GatedBackbone:
    """Return a backbone with masked layers. Raises ``ValueError`` for a kind that has none."""
    if isinstance(backbone, AlexNet):
        return GatedAlexNet(backbone)
    if isinstance(backbone, CifarResNet | ResNet18):
        return GatedResNet(backbone)
    if isinstance(backbone, PlainViTBackbone):
        return GatedViT(backbone)
    kind = str(backbone.structure()["kind"])
    raise InvalidSettingError("backbone", kind, "has no layers that can be masked", GATED)


GATED = ("alexnet", "cifar_resnet", "resnet18", "plain_vit")
"""Kinds of backbones with masked layers."""
