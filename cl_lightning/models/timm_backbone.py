"""Any of timm's networks as a feature extractor, by name: what stands in front of its classifier.

Features are timm's own (``forward_features``, then ``forward_head(pre_logits=True)``): pooled as the network's weights
were trained, behind the final norm; of most vision transformers that is the class token.

Two things of timm's do not fit here, and are taken out when a network is built:

- dropout and stochastic depth draw from torch's global stream, where noise is an input in this package: all rates are
  zero, whatever the name's own are;
- batch norms take their statistics over all of a batch, where they are a virtual replica's (``replica_norm.py``).

Legend: B batch, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.backbone import Backbone
from cl_lightning.models.replica_norm import by_replica
from cl_lightning.models.tensor_types import Images, Maps, Scales
from cl_lightning.models.timm_names import expected_size, pretrained_config
from cl_lightning.models.weights_file import Weights

_NET = "net."
"""Our prefix of timm's names."""
_RATES = ("p", "drop_prob", "drop", "prob")
"""Names that timm's and torch's layers have for the probability of leaving something out."""


class TimmBackbone(Backbone):
    """A network of ``timm.create_model(name)`` without its classifier, drawn at random: weights from elsewhere are
    loaded into it (``backbone_weights.py``).
    """

    def __init__(
        self, *, name: str, image_size: int, channels: int = 3, patch_size: int | None = None, frozen: bool = False
    ) -> None:
        """Build the network for square images.

        Args:
            name: timm's; a tag (``NAME.TAG``) may choose among its weights.
            image_size: side of the images, in pixels.
            channels: channels of the images.
            patch_size: replaces the name's own, for transformers on small images; None: the name's own.
            frozen: True for a network that is never trained: its batch norms stay in evaluation mode.

        Raises ``ValueError`` for names that timm does not know, and for sizes that the network cannot have.
        """
        super().__init__(dim=timm_shapes(name, image_size, channels, patch_size).dim, frozen=frozen)
        self.net = open_network(name, image_size, channels, patch_size)
        by_replica(self.net)
        self._caching = [module for module in self.net.modules() if hasattr(module, "attention_bias_cache")]
        self._sizes = {"name": name, "image_size": image_size, "channels": channels, "patch_size": patch_size}
        self._classifiers = _classifiers(name)
        self.train()

    def forward(self, images: Images, scales: Scales | None = None) -> tuple[Float[Tensor, "B D"], Maps]:
        """Return vectors, and no maps; there are no branches to scale."""
        features = self.net.forward_head(self.net.forward_features(images), pre_logits=True)
        for module in self._caching:  # LeViT and others keep what they made of their weights, which change
            module.attention_bias_cache = {}
        return features, ()

    def renamed(self, weights: Weights) -> dict[str, Tensor]:
        """Return weights under timm's names, or ours, under ours, without their classifier."""
        own = self.net.state_dict()
        bare = {key.removeprefix(_NET): value for key, value in weights.items()}
        kept = {k: v for k, v in bare.items() if k in own or k.split(".")[0] not in self._classifiers}
        return {_NET + key: value for key, value in kept.items()}

    def structure(self) -> dict[str, Any]:
        """Return name and sizes; weights come from the checkpoint, never from a download."""
        return {"kind": "timm_backbone", **self._sizes, "frozen": self.frozen}


@dataclass(frozen=True)
class Shapes:
    """Sizes of a network, known without its memory."""

    dim: int
    """Width D of its features."""
    weights: int
    """Number of its parameters."""
    fixed: int
    """Number of values that it keeps beside them."""


@cache
def timm_shapes(name: str, image_size: int, channels: int, patch_size: int | None) -> Shapes:
    """Return the sizes of a network, read from an instance without memory (device ``meta``) that has read two images.

    Raises ``ValueError`` as :class:`TimmBackbone` does.
    """
    with torch_seeded(Key(0)), torch.device("meta"):  # nothing of the caller's stream is drawn
        net = open_network(name, image_size, channels, patch_size).eval()
        try:
            with torch.no_grad():
                images = torch.empty(2, channels, image_size, image_size)
                found = net.forward_head(net.forward_features(images), pre_logits=True)
        except Exception as error:  # each family says in its own way that images are too small, or of a wrong size
            raise _does_not_fit(name, image_size, error) from error
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 2:
        raise InvalidSettingError("name", name, "gives no vector of features for an image", "resnet50 or another name")
    weights = sum(parameter.numel() for parameter in net.parameters())
    return Shapes(found.shape[1], weights, sum(buffer.numel() for buffer in net.buffers()))


def open_network(name: str, image_size: int, channels: int, patch_size: int | None, *, pretrained: bool = False) -> Any:
    """Build timm's network without a classifier and without random draws in training, told the image size if its
    family asks for it. ``pretrained`` loads timm's weights: a download, or its cache.

    Raises ``ValueError`` for names that timm does not know and for sizes that the network cannot have.
    """
    import timm

    pretrained_config(name)  # refuses what is no name
    options: dict[str, Any] = {"img_size": image_size, "drop_rate": 0.0, "drop_path_rate": 0.0}
    options |= {} if patch_size is None else {"patch_size": patch_size}
    while True:
        try:
            net = timm.create_model(name, pretrained=pretrained, num_classes=0, in_chans=channels, **options)
        except TypeError as error:  # the family has no such option
            unknown = next((option for option in options if f"'{option}'" in str(error)), None)
            if unknown is None:
                raise
            if unknown == "patch_size":
                raise InvalidSettingError("patch_size", patch_size, f"is no option of {name}", None) from error
            del options[unknown]
        except (AssertionError, ValueError, RuntimeError, ZeroDivisionError) as error:
            if pretrained:  # told by who asked for weights
                raise
            raise _does_not_fit(name, image_size, error) from error
        else:
            return _without_draws(net)


def _without_draws(net: Any) -> Any:
    """Set all rates of dropout and stochastic depth to zero: some families have rates that no option reaches."""
    for module in net.modules():
        if "Drop" in type(module).__name__:
            for rate in _RATES:
                if getattr(module, rate, None):
                    setattr(module, rate, 0.0)
    return net


def _does_not_fit(name: str, image_size: int, error: Exception) -> InvalidSettingError:
    expected = expected_size(name)
    said = " ".join(str(error).split())[:120]
    reason = f"does not go with {name}, which was made for {expected}{f' ({said})' if said else ''}"
    allowed: dict[str, Any] = {"image_size": expected} if image_size != expected else {}
    allowed |= {"patch_size": "N that divides it"} if "patch" in name else {}
    return InvalidSettingError("image_size", image_size, reason, {**allowed, "name": "resnet10t or another name"})


def _classifiers(name: str) -> frozenset[str]:
    """Return the names of the modules that end in the classifier."""
    given = pretrained_config(name).classifier or ()
    return frozenset(each.split(".")[0] for each in ((given,) if isinstance(given, str) else given))
