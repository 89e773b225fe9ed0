"""A branch that reconstructs masked patches, and that only training has.

A reconstruction of DRDN's branch (arXiv 2607.01630) from its text: the encoder sees some patches of a copy of each
image; one transformer block puts learnt tokens in the place of the others and predicts their pixels, as masked
autoencoders do (He et al., CVPR 2022). Its gradient reaches the encoder and the branch, and nothing that a task brings.
The text leaves the block's inner width open; twice the width gives the 1.2 M parameters that it states.

Legend: B batch, N patches, V visible ones, D width, F = channels P^2 values of a patch.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from cl_lightning.models.attention import attend
from cl_lightning.models.layers import MLP, split_heads, trunc_normal_linear


def masked_patches(patches: int, share: float) -> int:
    """Return the number of masked patches: the share, rounded, but one at least and not all."""
    return min(max(round(share * patches), 1), patches - 1)


def visible_rows(drawn_NB: Float[Tensor, "N B"], visible: int) -> Int64[Tensor, "B {visible}"]:
    """Return the patches with the smallest numbers of each image, rising."""
    return drawn_NB.argsort(dim=0, stable=True)[:visible].sort(dim=0).values.T.contiguous()


def sine_positions(side: int, dim: int) -> Float[Tensor, "N {dim}"]:
    """Return fixed positions of the patches of a square: sines and cosines of the column, then of the row, with
    wavelengths from 2 pi to 20,000 pi; zeros fill a width that is no multiple of four.
    """
    quarter = dim // 4
    rates = 10_000.0 ** (-torch.arange(quarter, dtype=torch.float64) / max(quarter, 1))
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    angles = [axis.flatten().double()[:, None] * rates for axis in (column, row)]
    parts = [wave(angle) for angle in angles for wave in (torch.sin, torch.cos)]
    return torch.nn.functional.pad(torch.cat(parts, dim=1), (0, dim - 4 * quarter)).float()


class Reconstruction(nn.Module):
    """One transformer block from the encoded visible patches to the values of all."""

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int,
        num_patches: int,
        values: int,
        mask: float = 0.75,
        ffn_ratio: float = 2.0,
    ) -> None:
        """Build the block.

        Args:
            dim: width D of the encoder's tokens.
            num_heads: heads of the block.
            num_patches: patches N of an image, a square, two at least.
            values: numbers F of a patch.
            mask: share of the patches that are masked, in (0, 1).
            ffn_ratio: width within the block's MLP over D.
        """
        super().__init__()
        self.visible = num_patches - masked_patches(num_patches, mask)
        self.num_patches = num_patches
        self._heads = num_heads
        self._sizes = {"mask": mask, "ffn_ratio": ffn_ratio}
        self.token = nn.Parameter(nn.init.normal_(torch.empty(1, 1, dim), std=0.02))
        self.norm1, self.norm2, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim)
        self.mlp = MLP(dim, int(dim * ffn_ratio))
        self.head = nn.Linear(dim, values)
        for linear in (self.qkv, self.proj, self.head):
            trunc_normal_linear(linear)
        self.positions: Tensor
        self.register_buffer("positions", sine_positions(round(num_patches**0.5), dim), persistent=False)

    def forward(self, visible_BVD: Float[Tensor, "B V D"], rows_BV: Int64[Tensor, "B V"]) -> Float[Tensor, "B N F"]:
        """Predict the values of all patches of the encoded ``visible_BVD``, which are the patches ``rows_BV``."""
        places = rows_BV[..., None].expand(-1, -1, visible_BVD.shape[-1])
        tokens = self.token.to(visible_BVD.dtype).expand(len(rows_BV), self.num_patches, -1)
        x_BND = tokens.scatter(1, places, visible_BVD) + self.positions
        x_BND = x_BND + self._attend(self.norm1(x_BND))
        x_BND = x_BND + self.mlp(self.norm2(x_BND))
        return self.head(self.norm(x_BND))

    def masked(self, rows_BV: Int64[Tensor, "B V"]) -> Bool[Tensor, "B N"]:
        """Return which patches are not among ``rows_BV``."""
        every = torch.ones(len(rows_BV), self.num_patches, dtype=torch.bool, device=rows_BV.device)
        return every.scatter(1, rows_BV, torch.zeros_like(rows_BV, dtype=torch.bool))

    def structure(self) -> dict[str, Any]:
        """Return the options; sizes are the encoder's."""
        return dict(self._sizes)

    def _attend(self, x_BND: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        q, k, v = (split_heads(part, self._heads) for part in self.qkv(x_BND).chunk(3, dim=-1))
        return self.proj(attend(q, k, v).transpose(1, 2).flatten(2))
