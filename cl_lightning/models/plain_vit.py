"""A plain vision transformer with class token and final norm, whose attention and MLPs can be masked from outside.

Dosovitskiy et al. (ICLR 2021) and DeiT (Touvron et al., ICML 2021), pre-norm: names and shapes of all weights are those
of timm's ``VisionTransformer``, so that its weights load as they are (``models/vit_weights.py``). A task's masks are
arguments of each pass: nothing of a task is stored here.

Legend: B batch, N patches, n = 1 + N tokens (class token first), D width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.models.attention import attend
from cl_lightning.models.layers import MLP, BranchScale, residual, split_heads, trunc_normal_linear
from cl_lightning.models.masks import masked_softmax, open_with_self
from cl_lightning.models.tensor_types import Images, Scales

_NORM_EPS = 1e-6
Weights = Mapping[str, Tensor]
"""Weights of a transformer, by timm's names."""
Tokens = Float[Tensor, "B n D"]


@dataclass(frozen=True)
class BlockMasks:
    """Masks of a block; ``None`` masks nothing."""

    tokens: Float[Tensor, "B N"] | None = None
    """In {0, 1}, with gradients: the patches that each image's tokens may attend to, in training."""
    seen: Bool[Tensor, "n n"] | None = None
    """True where token i may attend to token j, the same for all images, in evaluation."""
    fc1: Float[Tensor, "hidden D"] | None = None
    """The MLP's first weight, masked."""
    fc2: Float[Tensor, "D hidden"] | None = None
    """The MLP's second weight, masked."""


OPEN = BlockMasks()
"""No masks."""


class Attention(nn.Module):
    """Self-attention of all tokens."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        trunc_normal_linear(self.qkv)
        trunc_normal_linear(self.proj)

    def forward(self, x_BnD: Tokens, masks: BlockMasks) -> Tokens:
        """Return softmax(q k^T / sqrt(E)) v, under the masks."""
        q, k, v = (split_heads(each, self.num_heads) for each in self.qkv(x_BnD).chunk(3, dim=-1))
        if masks.tokens is None:
            mixed = attend(q, k, v, mask=masks.seen)
        else:
            scores_BHnn = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
            share_BHnn = masked_softmax(scores_BHnn, open_with_self(masks.tokens)[:, None])
            mixed = share_BHnn.to(v.dtype) @ v
        return self.proj(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A block of attention and MLP, each behind a norm."""

    def __init__(self, dim: int, num_heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.mlp = MLP(dim, hidden)

    def forward(
        self,
        x_BnD: Tokens,
        masks: BlockMasks,
        scales: tuple[BranchScale | None, BranchScale | None] = (None, None),
        adapter: Callable[[Tokens], Tokens] | None = None,
    ) -> Tokens:
        """Add both residual branches; ``scales`` multiply them. ``adapter`` is a third one, beside the MLP."""
        x_BnD = residual(x_BnD, self.attn(self.norm1(x_BnD), masks), scales[0])
        y_BnD = residual(x_BnD, self._mlp(self.norm2(x_BnD), masks), scales[1])
        return y_BnD if adapter is None else y_BnD + adapter(x_BnD)

    def _mlp(self, x_BnD: Tokens, masks: BlockMasks) -> Tokens:
        if masks.fc1 is None or masks.fc2 is None:
            return self.mlp(x_BnD)
        hidden = F.gelu(F.linear(x_BnD, masks.fc1, self.mlp.fc1.bias))
        return F.linear(hidden, masks.fc2, self.mlp.fc2.bias)


class PatchEmbed(nn.Module):
    """A linear map from square patches to vectors."""

    def __init__(self, channels: int, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch_size, patch_size)
        fan_in = channels * patch_size**2
        nn.init.trunc_normal_(self.proj.weight, std=fan_in**-0.5)
        nn.init.zeros_(self.proj.bias)  # type: ignore[arg-type]

    def forward(self, images: Images) -> Float[Tensor, "B N D"]:
        """Embed each patch."""
        return self.proj(images).flatten(2).transpose(1, 2)


class PlainViT(nn.Module):
    """A transformer from images to the class token behind the final norm."""

    def __init__(
        self,
        *,
        image_size: int,
        channels: int,
        patch_size: int,
        dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ) -> None:
        """``drop_path`` is the stochastic-depth rate of the last block; it rises linearly from 0."""
        super().__init__()
        self._sizes = {
            "image_size": image_size, "channels": channels, "patch_size": patch_size, "dim": dim, "depth": depth,
            "num_heads": num_heads, "mlp_ratio": mlp_ratio, "drop_path": drop_path,
        }  # fmt: skip
        self.dim = dim
        self.num_patches = (image_size // patch_size) ** 2
        self.drop_path = drop_path
        self.patch_embed = PatchEmbed(channels, patch_size, dim)
        self.cls_token = nn.Parameter(torch.empty(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.num_patches, dim))
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        self.blocks = nn.ModuleList(Block(dim, num_heads, round(dim * mlp_ratio)) for _ in range(depth))
        self.norm = nn.LayerNorm(dim, eps=_NORM_EPS)

    def layers(self) -> list[Block]:
        """Return the blocks."""
        return list(self.blocks)  # type: ignore[arg-type]

    def drop_rates(self) -> list[float]:
        """Return the stochastic-depth rate of each residual branch, two a block."""
        depth = len(self.blocks)
        return [self.drop_path * k / max(1, depth - 1) for k in range(depth) for _ in range(2)]

    def forward(
        self,
        images: Images,
        masks: Sequence[BlockMasks] = (),
        scales: Scales | None = None,
        adapters: Sequence[Callable[[Tokens], Tokens]] = (),
    ) -> Float[Tensor, "B D"]:
        """Embed images; ``masks`` and ``adapters`` are one a block (empty: none), ``scales`` stochastic depth's
        multipliers, two a block.
        """
        patches_BND = self.patch_embed(images)
        x_BnD = torch.cat([self.cls_token.expand(images.shape[0], -1, -1), patches_BND], dim=1) + self.pos_embed
        for k, block in enumerate(self.blocks):
            own = (None, None) if scales is None else (scales[2 * k], scales[2 * k + 1])
            x_BnD = block(x_BnD, masks[k] if masks else OPEN, own, adapters[k] if adapters else None)
        return self.norm(x_BnD[:, 0])

    def structure(self) -> dict[str, Any]:
        """Return the sizes."""
        return {"kind": "plain_vit", **self._sizes}
