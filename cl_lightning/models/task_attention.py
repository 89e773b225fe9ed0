"""The task-attention block (DyTox, section 3.2): a token per task asks the patches of an image for what its task needs.

The published code runs the block once for every token. The tokens do not depend on the image and never attend to one
another, so all of them can pass together: keys and values of the patches are computed once, and query i sees its own
key and the patches'. The result is the loop's, up to rounding; stochastic depth still draws for every (image, task).

Legend: B batch, N patches, T tokens, D width, H heads, E = D / H.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cl_lightning.models.layers import MLP, split_heads, trunc_normal_linear


class TaskAttention(nn.Module):
    """Attention of tokens over themselves (each its own) and the patches."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(dim, dim, bias=False)
        self.v = nn.Linear(dim, dim, bias=False)
        self.proj = nn.Linear(dim, dim)
        for linear in (self.q, self.k, self.v, self.proj):
            trunc_normal_linear(linear)

    def forward(self, tokens_TD: Tensor, patches_BND: Tensor) -> Tensor:
        """What each token reads from each image, (B, T, D); both inputs are already normalised."""
        heads = self.num_heads
        scale = (tokens_TD.shape[-1] // heads) ** -0.5
        q_HTE, own_k_HTE, own_v_HTE = (
            split_heads(t[None], heads)[0] for t in (self.q(tokens_TD) * scale, self.k(tokens_TD), self.v(tokens_TD))
        )
        k_BHNE, v_BHNE = split_heads(self.k(patches_BND), heads), split_heads(self.v(patches_BND), heads)
        to_patches_BHTN = q_HTE @ k_BHNE.transpose(-1, -2)
        to_itself_HT1 = (q_HTE * own_k_HTE).sum(-1, keepdim=True)
        to_itself_BHT1 = to_itself_HT1.expand(len(patches_BND), -1, -1, -1)
        weights = torch.cat([to_itself_BHT1, to_patches_BHTN], dim=-1).softmax(dim=-1).to(v_BHNE.dtype)
        read_BHTE = weights[..., :1] * own_v_HTE + weights[..., 1:] @ v_BHNE
        return self.proj(read_BHTE.transpose(1, 2).flatten(2))


class TaskAttentionBlock(nn.Module):
    """Task attention and an MLP, on the tokens' residual stream; shared by all tasks ("TAB" in DyTox)."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = TaskAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, int(dim * mlp_ratio))

    def forward(self, tokens_TD: Tensor, patches_BND: Tensor, scales_TKB: Tensor | None = None) -> Tensor:
        """Task embeddings (B, T, D); ``scales_TKB`` (T, 2, B) multiplies the attention and MLP branch per task and
        image.
        """
        read_BTD = self.attn(self.norm1(tokens_TD), self.norm1(patches_BND))
        if scales_TKB is not None:
            read_BTD = read_BTD * scales_TKB[:, 0].T.unsqueeze(-1).to(read_BTD.dtype)
        e_BTD = tokens_TD + read_BTD
        hidden_BTD = self.mlp(self.norm2(e_BTD))
        if scales_TKB is not None:
            hidden_BTD = hidden_BTD * scales_TKB[:, 1].T.unsqueeze(-1).to(hidden_BTD.dtype)
        return e_BTD + hidden_BTD
