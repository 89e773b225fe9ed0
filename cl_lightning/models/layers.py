"""Small layers that the transformers share.

Legend: B batch, N tokens, D width, H heads, E = D / H.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

BranchScale = Float[Tensor, " B"]
"""Multipliers of one residual branch."""


def trunc_normal_linear(linear: nn.Linear) -> None:
    """Initialise as timm's vision transformers do: weight truncated normal, std 0.02, bias 0."""
    nn.init.trunc_normal_(linear.weight, std=0.02)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def split_heads(x_BND: Float[Tensor, "B N D"], num_heads: int) -> Float[Tensor, "B {num_heads} N D//{num_heads}"]:
    """Split the width into heads and move them before the tokens."""
    return x_BND.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def residual(
    x: Float[Tensor, " B *rest"], branch: Float[Tensor, " B *rest"], scale_B: BranchScale | None
) -> Float[Tensor, " B *rest"]:
    """Return ``x + branch``, the branch multiplied per image by ``scale_B`` (stochastic depth) if given."""
    if scale_B is None:
        return x + branch
    return x + branch * scale_B.to(branch.dtype).view(-1, *[1] * (branch.ndim - 1))


class MLP(nn.Module):
    """A perceptron: linear, exact GELU, linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        trunc_normal_linear(self.fc1)
        trunc_normal_linear(self.fc2)

    def forward(self, x: Float[Tensor, "*rest D"]) -> Float[Tensor, "*rest D"]:
        """Map each vector by itself."""
        return self.fc2(F.gelu(self.fc1(x)))
