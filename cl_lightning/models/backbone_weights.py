"""Sources of the weights that a backbone starts from: a file, or timm by name."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.backbone import Backbone
from cl_lightning.models.timm_backbone import open_network
from cl_lightning.models.timm_names import pretrained_config
from cl_lightning.models.weights_file import fitting, not_to_be_had, read_weights, within

FILE = "weights_file"
"""Argument that names the file, for messages."""
_PREFIXES = ("network.body.backbone.", "body.backbone.", "network.backbone.", "backbone.", "network.vit.", "module.")
"""Prefixes of a backbone's names: in an export and a checkpoint of HAT, in others of ours, in an export of MEAT, from
``nn.DataParallel``.
"""
_COUNTERS = ".num_batches_tracked"


def backbone_file_weights(path: Path, backbone: Backbone) -> dict[str, Tensor]:
    """Load weights for ``backbone`` from a ``.safetensors`` file, or one of ``torch.save`` (tensors alone, never code).

    Names are the backbone's own, or those of timm's network (for :class:`ResNet18` torchvision's too), or of a whole
    network in a checkpoint or an export of this program; what belongs to a classifier is left out. Steps that a batch
    norm has counted, which old files lack, are none.

    Raises ``ValueError`` where the file is missing, cannot be read, or has other names or shapes.
    """
    weights = backbone.renamed(within(read_weights(path, FILE), _PREFIXES))
    counters = {key: value for key, value in backbone.state_dict().items() if key.endswith(_COUNTERS)}
    missing = {key: torch.zeros_like(value) for key, value in counters.items() if key not in weights}
    return fitting({**missing, **weights}, backbone, path, FILE)


def check_pretrained(name: str) -> None:
    """Raise ``ValueError`` where timm has no trained weights of ``name``; nothing is downloaded."""
    if not pretrained_config(name).has_weights:
        raise InvalidSettingError("pretrained", True, f": timm has no weights of {name}", {"pretrained": False})


def timm_backbone_weights(
    backbone: Backbone, name: str, image_size: int, channels: int, patch_size: int | None
) -> dict[str, Tensor]:
    """Load timm's trained weights (a download, or its cache) for ``backbone``, fitted to the sizes as timm does it.

    Raises ``ValueError`` where they are not available.
    """
    try:
        with torch_seeded(Key(0)):  # what it draws first is replaced
            net = open_network(name, image_size, channels, patch_size, pretrained=True)
    except InvalidSettingError:
        raise
    except Exception as error:
        raise not_to_be_had(name, error, FILE) from error
    return fitting(backbone.renamed(net.state_dict()), backbone, Path(name), FILE)
