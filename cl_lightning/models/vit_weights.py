"""Sources of the weights of a plain vision transformer: timm by name, or a file.

Names are timm's on both sides; a classifier that comes along is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.models.plain_vit import PlainViT
from cl_lightning.models.timm_vit import open_plain_vit
from cl_lightning.models.weights_file import fitting, not_to_be_had, read_weights, within

_PREFIXES = ("network.backbone.vit.", "backbone.vit.", "network.vit.", "vit.")
"""Prefixes of the transformer's names in exports and checkpoints of ours."""


def timm_sizes(name: str, image_size: int, channels: int, patch_size: int | None) -> dict[str, Any]:
    """Return the sizes of timm's transformer ``name``, as ``PlainViT`` takes them.

    Raises ``ValueError`` for names whose transformer is not plain.
    """
    with torch.device("meta"):  # sizes alone: nothing is drawn
        vit = open_plain_vit(name, image_size, channels, patch_size, pretrained=False, class_token=True)
    sizes = {
        "image_size": image_size,
        "channels": channels,
        "patch_size": vit.patch_embed.patch_size[0],
        "dim": vit.embed_dim,
        "depth": len(vit.blocks),
        "num_heads": vit.blocks[0].attn.num_heads,
        "mlp_ratio": vit.blocks[0].mlp.fc1.out_features / vit.embed_dim,
    }
    with torch.device("meta"):
        ours = PlainViT(**sizes)
    shapes, theirs = (
        {key: tuple(value.shape) for key, value in model.state_dict().items() if not is_head(key)}
        for model in (ours, vit)
    )
    # Same weights, and nothing that has none: another activation or epsilon would be another function of them.
    block, norms = vit.blocks[0], (vit.norm, vit.blocks[0].norm1)
    plain = isinstance(block.mlp.act, torch.nn.GELU) and all(getattr(norm, "eps", None) == 1e-6 for norm in norms)
    if shapes != theirs or not plain:
        reason = "has other layers than a plain vision transformer with a class token"
        allowed = "deit_tiny_patch16_224, deit_small_patch16_224 or vit_tiny_patch16_224"
        raise InvalidSettingError("name", name, reason, allowed)
    return sizes


def timm_weights(name: str, image_size: int, channels: int, patch_size: int | None) -> dict[str, Tensor]:
    """Load timm's trained weights (a download, or its cache), fitted to the image size as timm does it.

    Raises ``ValueError`` where they are not available.
    """
    try:
        vit = open_plain_vit(name, image_size, channels, patch_size, pretrained=True, class_token=True)
    except Exception as error:
        raise not_to_be_had(name, error, "path") from error
    return {key: value for key, value in vit.state_dict().items() if not is_head(key)}


def file_weights(path: Path, vit: nn.Module) -> dict[str, Tensor]:
    """Load weights for ``vit``, or for another network, from a ``.safetensors`` file, or one of ``torch.save`` (tensors
    alone, never code), or the transformer's part of a checkpoint or an export of this program.

    Raises ``ValueError`` where the file is missing, cannot be read, or has other names or shapes.
    """
    weights = within(read_weights(path), _PREFIXES)
    return fitting({key: value for key, value in weights.items() if not is_head(key)}, vit, path)


def is_head(key: str) -> bool:
    """Return whether a weight is of timm's classifier, and not of the transformer."""
    return key.startswith(("head.", "fc_norm."))
