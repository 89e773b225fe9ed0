"""Small layers that the transformers share."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def trunc_normal_linear(linear: nn.Linear) -> None:
    """Initialise as timm's vision transformers do: weight truncated normal, std 0.02, bias 0."""
    nn.init.trunc_normal_(linear.weight, std=0.02)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def split_heads(x_BND: Tensor, num_heads: int) -> Tensor:
    """(B, N, H * E) -> (B, H, N, E)."""
    return x_BND.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def residual(x: Tensor, branch: Tensor, scale_B: Tensor | None) -> Tensor:
    """``x + branch``, the branch multiplied per image by ``scale_B`` (stochastic depth) if given."""
    if scale_B is None:
        return x + branch
    return x + branch * scale_B.to(branch.dtype).view(-1, *[1] * (branch.ndim - 1))


class MLP(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        trunc_normal_linear(self.fc1)
        trunc_normal_linear(self.fc2)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.fc2(F.gelu(self.fc1(x)))
