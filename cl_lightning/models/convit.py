"""ConViT's encoder: transformer blocks whose attention is part content, part position.

d'Ascoli et al., ConViT (ICML 2021), as DyTox uses it (CVPR 2022, section 3 and its configuration): no class token, no
final norm. Gated positional self-attention mixes two stochastic matrices, (1 - g) softmax(q k) + g softmax(position),
so its output is (1 - g) * attention(q, k, v) + g * (position @ v): the second half does not depend on the image and is
computed once for the batch.

Legend: B batch, N patches, D width, H heads, E = D / H.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.models.attention import attend
from cl_lightning.models.encoder import Encoder
from cl_lightning.models.gated_attention_op import gated_attention
from cl_lightning.models.layers import MLP, BranchScale, residual, split_heads, trunc_normal_linear
from cl_lightning.models.tensor_types import Images, Maps, Scales

Tokens = Float[Tensor, "B N D"]


def relative_positions(side: int) -> Float[Tensor, "N N 3"]:
    """Return column offset, row offset and squared distance between patches of a square grid, in patches."""
    row, col = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    row, col = row.flatten(), col.flatten()
    dx, dy = col[None, :] - col[:, None], row[None, :] - row[:, None]
    return torch.stack([dx, dy, dx**2 + dy**2], dim=-1).float()


class GatedPositionalAttention(nn.Module):
    """Self-attention that each head may turn from content to position (ConViT, equations 6-9)."""

    def __init__(self, dim: int, num_heads: int, num_patches: int, locality: float = 1.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qk = nn.Linear(dim, 2 * dim, bias=False)
        self.v = nn.Linear(dim, dim, bias=False)
        self.proj = nn.Linear(dim, dim)
        self.pos_proj = nn.Linear(3, num_heads)
        self.gating_param = nn.Parameter(torch.ones(num_heads))
        self.register_buffer("relative", relative_positions(int(num_patches**0.5)), persistent=False)
        self._initialise(locality)

    def _initialise(self, locality: float) -> None:
        for linear in (self.qk, self.v, self.proj, self.pos_proj):
            trunc_normal_linear(linear)
        nn.init.eye_(self.v.weight)
        side = int(self.num_heads**0.5)  # with 12 heads 3 x 3 of them look at a neighbour, as published
        with torch.no_grad():
            for h1 in range(side):
                for h2 in range(side):
                    dx, dy = h2 - (side - 1) / 2, h1 - (side - 1) / 2
                    self.pos_proj.weight[h1 + side * h2] = torch.tensor([2.0 * dx, 2.0 * dy, -1.0]) * locality

    def position_attention(self) -> Float[Tensor, "H N N"]:
        """Return softmax(position), the same for every image; rows sum to one."""
        offsets_3NN = self.relative.permute(2, 0, 1)  # type: ignore[operator]
        weight_H3, bias_H = self.pos_proj.weight, self.pos_proj.bias
        # Three products and not one of matrices, which mixed precision would round.
        scores_HNN = sum(weight_H3[:, c, None, None] * offsets_3NN[c] for c in range(3)) + bias_H[:, None, None]
        return scores_HNN.softmax(dim=-1)

    def among(self, z_BVD: Float[Tensor, "B V D"], rows_BV: Int64[Tensor, "B V"]) -> Float[Tensor, "B V D"]:
        """Attend over the patches ``rows_BV`` of each image alone: positions share one among these."""
        whole_HNN = self.position_attention().to(z_BVD.dtype)
        among_BHVV = whole_HNN[:, rows_BV[:, :, None], rows_BV[:, None, :]].transpose(0, 1)
        position = among_BHVV / among_BHVV.sum(dim=-1, keepdim=True)
        q, k, v = (split_heads(t, self.num_heads) for t in (*self.qk(z_BVD).chunk(2, dim=-1), self.v(z_BVD)))
        gate = torch.sigmoid(self.gating_param).view(-1, 1, 1).to(v.dtype)
        mixed = torch.lerp(attend(q, k, v), position.to(v.dtype) @ v, gate)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def forward(self, z_BND: Tokens) -> Tokens:
        """Attend over the patches of each image."""
        gate = torch.sigmoid(self.gating_param)
        read = gated_attention(self.qk(z_BND), self.v(z_BND), self.position_attention(), gate)
        return self.proj(read)


class Block(nn.Module):
    """Pre-norm transformer block with gated positional attention ("SAB" in DyTox)."""

    def __init__(self, dim: int, num_heads: int, num_patches: int, mlp_ratio: float, locality: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = GatedPositionalAttention(dim, num_heads, num_patches, locality)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, int(dim * mlp_ratio))

    def forward(self, x_BND: Tokens, attention_scale_B: BranchScale | None, mlp_scale_B: BranchScale | None) -> Tokens:
        """Add two residual branches, each multiplied per image by its scale."""
        x_BND = residual(x_BND, self.attn(self.norm1(x_BND)), attention_scale_B)
        return residual(x_BND, self.mlp(self.norm2(x_BND)), mlp_scale_B)

    def among(self, x_BVD: Float[Tensor, "B V D"], rows_BV: Int64[Tensor, "B V"]) -> Float[Tensor, "B V D"]:
        """Do the same for some patches alone."""
        x_BVD = x_BVD + self.attn.among(self.norm1(x_BVD), rows_BV)
        return x_BVD + self.mlp(self.norm2(x_BVD))


class ConViT(Encoder):
    """An encoder of patches, learned positions and gated positional blocks."""

    def __init__(
        self,
        *,
        image_size: int,
        channels: int = 3,
        patch_size: int = 4,
        dim: int = 384,
        num_heads: int = 12,
        depth: int = 5,
        mlp_ratio: float = 4.0,
        locality: float = 1.0,
        drop_path: float = 0.1,
    ) -> None:
        """Build with published sizes for 32-pixel images.

        ``drop_path`` is the rate of the block that follows this encoder (the decoder); the rates here rise linearly
        from 0 towards it.
        """
        super().__init__(dim=dim, num_heads=num_heads)
        self._sizes: dict[str, Any] = {
            "image_size": image_size, "channels": channels, "patch_size": patch_size,
            "dim": dim, "num_heads": num_heads, "depth": depth,
            "mlp_ratio": mlp_ratio, "locality": locality, "drop_path": drop_path,
        }  # fmt: skip
        self.num_patches = num_patches = (image_size // patch_size) ** 2
        self.patch_size = patch_size
        self.drop_path = drop_path
        self.mlp_ratio = mlp_ratio
        self.patch_embed = nn.Conv2d(channels, dim, kernel_size=patch_size, stride=patch_size)
        self.pos_embed = nn.Parameter(torch.empty(1, num_patches, dim))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.blocks = nn.ModuleList(Block(dim, num_heads, num_patches, mlp_ratio, locality) for _ in range(depth))

    def drop_rates(self) -> list[float]:
        """Return two rates a block, rising linearly with depth (the decoder has the last, ``drop_path``)."""
        depth = len(self.blocks)
        return [self.drop_path * k / depth for k in range(depth) for _ in range(2)]

    def forward(self, images: Images, scales: Scales | None = None) -> tuple[Tokens, Maps]:
        """Return the tokens after the last block, and those after every block."""
        x_BND = self.embed_patches(images) + self.pos_embed
        maps = []
        for k, block in enumerate(self.blocks):
            pair = (None, None) if scales is None else (scales[2 * k], scales[2 * k + 1])
            x_BND = block(x_BND, *pair)
            maps.append(x_BND)
        return x_BND, tuple(maps)

    def visible(self, images: Images, rows_BV: Int64[Tensor, "B V"]) -> Float[Tensor, "B V D"]:
        """Return the tokens of the patches ``rows_BV`` of each image, which see each other alone."""
        x_BND = self.embed_patches(images) + self.pos_embed
        x_BVD = x_BND.gather(1, rows_BV[..., None].expand(-1, -1, x_BND.shape[-1]))
        for block in self.blocks:
            x_BVD = block.among(x_BVD, rows_BV)  # type: ignore[operator]
        return x_BVD

    def embed_patches(self, images: Images) -> Tokens:
        """Compute ``patch_embed`` as one product of matrices: its patches do not overlap, which libraries for
        convolution do not exploit.
        """
        size = self.patch_embed.kernel_size[0]
        patches = images.unflatten(3, (-1, size)).unflatten(2, (-1, size)).permute(0, 2, 4, 1, 3, 5)
        weight = self.patch_embed.weight.flatten(1)
        return F.linear(patches.flatten(3).flatten(1, 2), weight, self.patch_embed.bias)

    def structure(self) -> dict[str, Any]:
        """Return the sizes to build it again."""
        return {"kind": "convit", **self._sizes}
