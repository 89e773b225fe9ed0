"""The module that exports hold: one read-out of a network, images in, scores out."""

from __future__ import annotations

from torch import Tensor, nn

from cl_lightning.core.types import Readout
from cl_lightning.methods.class_means import minus_squared_distances
from cl_lightning.models.network import Network


class Scorer(nn.Module):
    """A read-out as a module: normalised images (B, channels, side, side) -> scores (B, C)."""

    means: Tensor | None

    def __init__(self, network: Network, readout: Readout) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("means", readout.means)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return scores as :class:`~cl_lightning.core.types.Readout` describes them."""
        features = self.network(images)
        if self.means is None:
            return self.network.logits(features)
        return minus_squared_distances(features.embeddings[:, 0], self.means)
