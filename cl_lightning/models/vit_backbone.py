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


class PlainViTBackbone(Backbone):
    """A transformer whose features are its class token behind the final norm."""

    def __init__(self, **sizes: Any) -> None:
        """``sizes`` are those of :class:`PlainViT`."""
        vit = PlainViT(**sizes)
        super().__init__(dim=vit.dim)
        self.vit = vit

    def drop_rates(self) -> list[float]:
        """Return the rates of the transformer's branches, two a block."""
        return self.vit.drop_rates()

    def forward(self, images: Images, scales: Scales | None = None) -> tuple[Float[Tensor, "B D"], Maps]:
        """Return the class token of each image; there are no maps."""
        return self.vit(images, scales=scales), ()

    def structure(self) -> dict[str, Any]:
        """Return the transformer's sizes."""
        return self.vit.structure()
