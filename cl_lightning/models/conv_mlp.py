"""A transformer's MLP with convolutions and batch norm, which sees the neighbours of each patch.

The feed-forward block of Gao et al., DKT (CVPR 2023), as its public code computes it: two maps of each token, and
between them a depthwise convolution over the square grid on which the tokens lie, each followed by batch norm.

Legend: B batch, N tokens on a square grid, D width, H hidden width, S side of the grid.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.models.replica_norm import ReplicaBatchNorm2d


class ConvMLP(nn.Module):
    """A perceptron of 1x1 convolutions around a depthwise 3x3 one; exact GELU, batch norm behind each convolution."""

    def __init__(self, dim: int, hidden: int) -> None:
        """Draw weights and biases as PyTorch draws those of convolutions."""
        super().__init__()
        self.fc1 = nn.Conv2d(dim, hidden, kernel_size=1)
        self.bn1 = ReplicaBatchNorm2d(hidden)
        self.dwconv = nn.Conv2d(hidden, hidden, kernel_size=3, padding=1, groups=hidden)
        self.bn2 = ReplicaBatchNorm2d(hidden)
        self.fc2 = nn.Conv2d(hidden, dim, kernel_size=1)
        self.bn3 = ReplicaBatchNorm2d(dim)

    def forward(self, x_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        """Map tokens that lie row by row on a square grid; a single token sees nothing but padding around it."""
        side = math.isqrt(x_BND.shape[1])
        x_BDSS = x_BND.transpose(1, 2).unflatten(2, (side, side))
        hidden_BHSS = F.gelu(self.bn1(self.fc1(x_BDSS)))
        hidden_BHSS = F.gelu(self.bn2(self.dwconv(hidden_BHSS)))
        return self.bn3(self.fc2(hidden_BHSS)).flatten(2).transpose(1, 2)
