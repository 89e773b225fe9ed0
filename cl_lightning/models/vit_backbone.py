"""A plain vision transformer as the backbone of an embedding network, read at its own class token.

Legend: B batch, D width.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor

from cl_lightning.models.backbone import Backbone
from cl_lightning.models.plain_vit import PlainViT
from cl_lightning.models.tensor_types import Images, Maps, Scales
from cl_lightning.models.vit_weights import is_head
from cl_lightning.models.weights_file import Weights, within

_VIT = "vit."
"""Our prefix of timm's names."""


class PlainViTBackbone(Backbone):
    """A transformer whose features are its class token behind the final norm."""

    def __init__(self, *, frozen: bool = False, **sizes: Any) -> None:
        """``sizes`` are those of :class:`PlainViT`; ``frozen`` is true for a transformer that is never trained."""
        vit = PlainViT(**sizes)
        super().__init__(dim=vit.dim, frozen=frozen)
        self.vit = vit
        self.train()

    def drop_rates(self) -> list[float]:
        """Return the rates of the transformer's branches, two a block."""
        return self.vit.drop_rates()

    def forward(self, images: Images, scales: Scales | None = None) -> tuple[Float[Tensor, "B D"], Maps]:
        """Return the class token of each image; there are no maps."""
        return self.vit(images, scales=scales), ()

    def structure(self) -> dict[str, Any]:
        """Return the transformer's sizes."""
        return {**self.vit.structure(), **({"frozen": True} if self.frozen else {})}

    def renamed(self, weights: Weights) -> dict[str, Tensor]:
        """Return weights under timm's names, or ours, under ours, without a classifier or masks."""
        return {_VIT + key: value for key, value in within(weights, ("base." + _VIT, _VIT)).items() if not is_head(key)}
