"""DKT's encoder: a transformer with a convolutional stem and convolutional MLPs, and a token that all tasks share.

Gao et al., DKT (CVPR 2023), as its public code computes it. Position enters through the convolutions alone: there are
no embeddings of position, no class token and no final norm. The *general token* stands among the keys and values of the
last block's attention. It is read there and written nowhere: no residual stream passes it on, so it holds what is
common to all tasks as long as it is trained.

Legend: B batch, N patches, M keys (N, or N + 1 with the general token), D width.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.models.attention import attend
from cl_lightning.models.conv_mlp import ConvMLP
from cl_lightning.models.encoder import Encoder
from cl_lightning.models.layers import BranchScale, residual, split_heads
from cl_lightning.models.replica_norm import ReplicaBatchNorm2d
from cl_lightning.models.tensor_types import Images, Maps, Scales

Tokens = Float[Tensor, "B N D"]

NORM_EPS = 1e-6
"""Epsilon of the LayerNorms in front of attention and MLP; those of classifiers have PyTorch's 1e-5."""
GENERAL_TOKEN = "general_token"
"""Name of the part (``Network.parts``) that the general token is."""
_STEM_WIDTH = 32
_LARGE_PATCH = 16


class Stem(nn.Module):
    """Convolution, batch norm, maximum, and a convolution that does not overlap: images to patches."""

    def __init__(self, channels: int, dim: int, patch_size: int) -> None:
        """Build for patches of ``patch_size`` pixels: even, and from 16 on a multiple of 4, where the first convolution
        halves the image too.
        """
        super().__init__()
        large = patch_size >= _LARGE_PATCH
        if patch_size % (4 if large else 2):
            raise InvalidSettingError("patch_size", patch_size, "does not fit the convolutions of this encoder", "4")
        size, stride, padding = (7, 2, 2) if large else (3, 1, 1)
        last = patch_size // (2 * stride)
        self.conv1 = nn.Conv2d(channels, _STEM_WIDTH, size, stride=stride, padding=padding)
        self.norm = ReplicaBatchNorm2d(_STEM_WIDTH)
        self.conv2 = nn.Conv2d(_STEM_WIDTH, dim, last, stride=last)

    def forward(self, images: Images) -> Tokens:
        """Return the patches, row by row."""
        x = F.max_pool2d(self.norm(self.conv1(images)), kernel_size=3, stride=2, padding=1)
        return self.conv2(x).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Self-attention whose keys may be more than its queries."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.k = nn.Linear(dim, dim)
        self.v = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, queries_BND: Tokens, keys_BMD: Float[Tensor, "B M D"]) -> Tokens:
        """Let each query read all keys."""
        q, k, v = self.q(queries_BND), self.k(keys_BMD), self.v(keys_BMD)
        read = attend(*(split_heads(each, self.num_heads) for each in (q, k, v)))
        return self.proj(read.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Pre-norm transformer block with a convolutional MLP."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = ConvMLP(dim, int(dim * mlp_ratio))

    def forward(
        self,
        x_BND: Tokens,
        attention_scale_B: BranchScale | None,
        mlp_scale_B: BranchScale | None,
        beside: Float[Tensor, "1 1 D"] | None = None,
    ) -> Tokens:
        """Add two residual branches, each multiplied per image by its scale; ``beside`` is one more key."""
        normal_BND = keys_BMD = self.norm1(x_BND)
        if beside is not None:
            keys_BMD = torch.cat([normal_BND, self.norm1(beside).expand(x_BND.shape[0], -1, -1)], dim=1)
        x_BND = residual(x_BND, self.attn(normal_BND, keys_BMD), attention_scale_B)
        return residual(x_BND, self.mlp(self.norm2(x_BND)), mlp_scale_B)


class ConvViT(Encoder):
    """An encoder of convolutional stem and blocks, with a general token in the last one."""

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
        drop_path: float = 0.1,
        general_token: bool = True,
    ) -> None:
        """Build with published sizes for 32-pixel images.

        ``drop_path`` is the rate that a decoder may take over; the rates here rise linearly from 0 towards it. Raises
        ``InvalidSettingError`` for a patch that the stem cannot make.
        """
        super().__init__(dim=dim, num_heads=num_heads)
        self._sizes: dict[str, Any] = {
            "image_size": image_size, "channels": channels, "patch_size": patch_size,
            "dim": dim, "num_heads": num_heads, "depth": depth,
            "mlp_ratio": mlp_ratio, "drop_path": drop_path, "general_token": general_token,
        }  # fmt: skip
        self.num_patches = (image_size // patch_size) ** 2
        self.drop_path = drop_path
        self.mlp_ratio = mlp_ratio
        self.patch_embed = Stem(channels, dim, patch_size)
        self.blocks = nn.ModuleList(Block(dim, num_heads, mlp_ratio) for _ in range(depth))
        token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, dim), std=0.02)) if general_token else None
        self.general_token = token

    def drop_rates(self) -> list[float]:
        """Return two rates a block, rising linearly with depth."""
        depth = len(self.blocks)
        return [self.drop_path * k / depth for k in range(depth) for _ in range(2)]

    def forward(self, images: Images, scales: Scales | None = None) -> tuple[Tokens, Maps]:
        """Return the tokens after the last block, and those after every block."""
        x_BND, last = self.patch_embed(images), len(self.blocks) - 1
        maps = []
        for k, block in enumerate(self.blocks):
            pair = (None, None) if scales is None else (scales[2 * k], scales[2 * k + 1])
            x_BND = block(x_BND, *pair, self.general_token if k == last else None)
            maps.append(x_BND)
        return x_BND, tuple(maps)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the general token apart from the rest."""
        if self.general_token is None:
            return super().parts()
        rest = [parameter for parameter in self.parameters() if parameter is not self.general_token]
        return {"encoder": rest, GENERAL_TOKEN: [self.general_token]}

    def structure(self) -> dict[str, Any]:
        """Return the sizes to build it again."""
        return {"kind": "conv_vit", **self._sizes}
