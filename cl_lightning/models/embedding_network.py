"""The network of most baselines: one embedding and a classifier that grows.

Backbones are anything that maps images to one vector (a CIFAR ResNet), or a transformer encoder read through a single
class token.

Legend: B batch, C classes.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Features
from cl_lightning.models.backbone import Backbone, Fill
from cl_lightning.models.encoder import Encoder
from cl_lightning.models.heads import GrowingClassifier, GrowingLinear
from cl_lightning.models.network import Branch, Network
from cl_lightning.models.task_attention import TaskAttentionBlock
from cl_lightning.models.tensor_types import Images, Maps, Noise, Scales, Vectors


class ClassTokenBackbone(Backbone):
    """A transformer encoder read by one class token in class attention, then normalised: DyTox's network with nothing
    that grows.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(dim=encoder.dim)
        self.encoder = encoder
        self.decoder = TaskAttentionBlock(encoder.dim, encoder.num_heads, encoder.mlp_ratio)
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, encoder.dim), std=0.02))
        self.norm = nn.LayerNorm(encoder.dim)

    def drop_rates(self) -> list[float]:
        """Return the rates of the encoder's branches, then the two of the class-attention block."""
        return [*self.encoder.drop_rates(), self.encoder.drop_path, self.encoder.drop_path]

    def forward(self, images: Images, scales: Scales | None = None) -> tuple[Float[Tensor, "B D"], Maps]:
        """Return one vector an image, and the tokens after each block."""
        patches_BND, maps = self.encoder(images, scales)
        scales_TKB = None if scales is None else scales[len(self.encoder.drop_rates()) :][None]
        embedding = self.decoder.ask(self.token[0], self.decoder.prepare(patches_BND), scales_TKB)[:, 0]
        return self.norm(embedding), maps

    def structure(self) -> dict[str, Any]:
        """Return the encoder's sizes."""
        return {"kind": "class_token", "encoder": self.encoder.structure()}


class EmbeddingNetwork(Network):
    """A backbone and one growing classifier, linear unless another is given."""

    def __init__(self, backbone: Backbone, *, bias: bool = True, head: GrowingClassifier | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.classifier: Any = head or GrowingLinear(backbone.dim, bias=bias)
        self._classes: list[int] = []

    @property
    def classes(self) -> tuple[int, ...]:
        """Number of classes of each task, in order of arrival."""
        return tuple(self._classes)

    def grow(self, num_new: int, key: Key) -> None:
        """Add rows to the classifier."""
        with rng.torch_seeded(key.fold("embedding network", len(self._classes))):
            self.classifier.grow(num_new)
        self._classes.append(num_new)

    def fill(self, fill: Fill) -> None:
        """Fill the backbone."""
        fill(self.backbone.start())

    def branches(self) -> list[Branch]:
        """Return the backbone's residual branches."""
        return [Branch("backbone", rate) for rate in self.backbone.drop_rates()]

    def noise(
        self, key: Key, positions: Int64[Tensor, " B"], steps: Int64[Tensor, " B"], frozen: frozenset[str]
    ) -> Noise | None:
        """Draw the backbone's own noise, or stochastic depth."""
        own = self.backbone.noise(key, positions)
        return super().noise(key, positions, steps, frozen) if own is None else own

    def frozen_trunk(self) -> nn.Module | None:
        """Return the backbone, if it is never trained, or if the classifier reads features that stay."""
        stays = self.backbone.frozen or self.classifier.reads_frozen_features()
        return self.backbone if stays else None

    def forward(self, images: Images | Vectors, scales: Noise | None = None) -> Features:
        """Return one embedding an image (T = 1) and the backbone's maps; of vectors, themselves and no maps."""
        if images.ndim == 2:
            return Features(images[:, None])
        embedding, maps = self.backbone(images, scales)
        return Features(embedding[:, None], maps)

    def logits(self, features: Features) -> Float[Tensor, "B C"]:
        """Classify the embedding."""
        return self.classifier(features.embeddings[:, 0])

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of the backbone, and of the classifier's parts."""
        return {**self.backbone.parts(), **self.classifier.parts()}

    def structure(self) -> dict[str, Any]:
        """Return the backbone's sizes and the classes of each task."""
        return {
            "kind": "embedding_network",
            "backbone": self.backbone.structure(),
            **self.classifier.structure(),
            "classes": list(self._classes),
        }
