"""The task-attention block (DyTox, section 3.2): a token per task asks the patches of an image for what its task needs.

The published code runs the block once for every token. The tokens do not depend on the image and never attend to one
another, so all of them can pass together: keys and values of the patches are computed once, and query i sees its own
key and the patches'. The result is the loop's, up to rounding; stochastic depth still draws for every (image, task).

Legend: B batch, N patches, T tokens, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from cl_lightning.models.layers import MLP, trunc_normal_linear
from cl_lightning.models.token_attention import patch_weights, token_attention


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

    def forward(self, tokens_TD: Tensor, k_BND: Tensor, v_BND: Tensor) -> Tensor:
        """What each token reads from each image, (B, T, D); the tokens are already normalised."""
        q_TD, own_k_TD, own_v_TD = self.q(tokens_TD), self.k(tokens_TD), self.v(tokens_TD)
        return self.proj(token_attention(q_TD, own_k_TD, own_v_TD, k_BND, v_BND, self.num_heads))

    def weights(self, tokens_TD: Tensor, k_BND: Tensor) -> Tensor:
        """(B, T, N) with which the tokens read the patches, mean over heads."""
        q_TD, own_k_TD = self.q(tokens_TD), self.k(tokens_TD)
        return patch_weights(q_TD, own_k_TD, k_BND, self.num_heads)[..., 1:].mean(dim=1)


class TaskAttentionBlock(nn.Module):
    """Task attention and an MLP, on the tokens' residual stream; shared by all tasks ("TAB" in DyTox)."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = TaskAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, int(dim * mlp_ratio))

    def keys_values(self, patches_BND: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, N, D) of the patches: the half of the block that no task changes."""
        normal_BND = self.norm1(patches_BND)
        return self.attn.k(normal_BND), self.attn.v(normal_BND)

    def forward(self, tokens_TD: Tensor, patches_BND: Tensor, scales_TKB: Tensor | None = None) -> Tensor:
        """Task embeddings (B, T, D); ``scales_TKB`` (T, 2, B) multiplies the attention and MLP branch per task and
        image.
        """
        return self.ask(tokens_TD, *self.keys_values(patches_BND), scales_TKB)

    def look(self, tokens_TD: Tensor, k_BND: Tensor) -> Tensor:
        """(B, T, N) how much of each patch each token reads."""
        return self.attn.weights(self.norm1(tokens_TD), k_BND)

    def ask(self, tokens_TD: Tensor, k_BND: Tensor, v_BND: Tensor, scales_TKB: Tensor | None = None) -> Tensor:
        """:meth:`forward` from what :meth:`keys_values` made of the patches."""
        read_BTD = self.attn(self.norm1(tokens_TD), k_BND, v_BND)
        if scales_TKB is not None:
            read_BTD = read_BTD * scales_TKB[:, 0].T.unsqueeze(-1).to(read_BTD.dtype)
        e_BTD = tokens_TD + read_BTD
        hidden_BTD = self.mlp(self.norm2(e_BTD))
        if scales_TKB is not None:
            hidden_BTD = hidden_BTD * scales_TKB[:, 1].T.unsqueeze(-1).to(hidden_BTD.dtype)
        return e_BTD + hidden_BTD
