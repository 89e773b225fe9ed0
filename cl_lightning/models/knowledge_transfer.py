"""DKT's decoder: the newest task's token asks the patches and the tokens of all tasks; one embedding for all classes.

Gao et al., DKT (CVPR 2023), as its public code computes it. As in DyTox (``models/task_attention.py``) a task brings a
token. The newest is the only query; the tokens of earlier tasks are keys and values beside the patches, through which
what was learnt for them passes on. So there is one embedding however many tasks there are, and with each task every
score changes, those of old classes included.

The token goes through the block's MLP alone. The convolutional one is then a map of single vectors: of its 3x3 kernels
the centre alone meets anything but padding, and its batch norms take their statistics over the images of a batch.

Legend: B batch, N patches, T tokens, D width, H heads, E = D / H.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cl_lightning.core.types import Plain
from cl_lightning.models.attention import attend, attention_weights
from cl_lightning.models.conv_mlp import ConvMLP
from cl_lightning.models.layers import MLP, residual, split_heads, trunc_normal_linear
from cl_lightning.models.task_decoder import Prepared, TaskScales
from cl_lightning.models.token_decoder import TokenDecoder, Tokens

Patches = Float[Tensor, "B N D"]
Heads = Float[Tensor, "B H any E"]

_NORM_EPS = 1e-6
MLPS = ("conv", "linear")
"""Kinds of its MLP: with convolutions and batch norm, as published, or as DyTox's."""


class TransferAttention(nn.Module):
    """Attention of one token over all tokens and the patches."""

    def __init__(self, dim: int, num_heads: int, *, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.k = nn.Linear(dim, dim, bias=qkv_bias)
        self.v = nn.Linear(dim, dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        for linear in (self.q, self.k, self.v, self.proj):
            trunc_normal_linear(linear)

    def forward(self, tokens_TD: Tokens, k_BND: Patches, v_BND: Patches) -> Float[Tensor, "B 1 D"]:
        """Return what the last of the tokens, which are already normalised, reads of them and of the patches."""
        v = self._beside(self.v(tokens_TD), v_BND)
        read_BH1E = attend(self._query(tokens_TD, k_BND.shape[0]), self._beside(self.k(tokens_TD), k_BND), v)
        return self.proj(read_BH1E.transpose(1, 2).flatten(2))

    def weights(self, tokens_TD: Tokens, k_BND: Patches) -> Float[Tensor, "B 1 N"]:
        """Return the attention to the patches, mean over heads."""
        keys = self._beside(self.k(tokens_TD), k_BND)
        return attention_weights(self._query(tokens_TD, k_BND.shape[0]), keys).mean(dim=1)[..., len(tokens_TD) :]

    def _query(self, tokens_TD: Tokens, images: int) -> Heads:
        return split_heads(self.q(tokens_TD[-1:])[None], self.num_heads).expand(images, -1, -1, -1)

    def _beside(self, tokens_TD: Tokens, patches_BND: Patches) -> Heads:
        """Put the same of all tokens in front of each image's patches."""
        tokens_BTD = tokens_TD.to(patches_BND.dtype).expand(patches_BND.shape[0], -1, -1)
        return split_heads(torch.cat([tokens_BTD, patches_BND], dim=1), self.num_heads)


class KnowledgeTransferBlock(TokenDecoder):
    """A decoder with a token for each task, of which the newest reads all others ("knowledge transfer" in DKT)."""

    embeds_each = False
    drop_path = 0.0

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        *,
        expansion: bool = True,
        mlp: str = "conv",
        qkv_bias: bool = True,
    ) -> None:
        """``mlp`` is one of :data:`MLPS`; ``qkv_bias``: queries, keys and values have biases."""
        super().__init__(expansion=expansion)
        self.dim = dim
        self._options: dict[str, Plain] = {"mlp": mlp, "qkv_bias": qkv_bias}
        self.norm1 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.attn = TransferAttention(dim, num_heads, qkv_bias=qkv_bias)
        self.norm2 = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.mlp = {"conv": ConvMLP, "linear": MLP}[mlp](dim, int(dim * mlp_ratio))
        self.tokens = nn.ParameterList()

    def prepare(self, patches_BND: Patches) -> Prepared:
        """Compute keys and values of the patches."""
        normal_BND = self.norm1(patches_BND)
        return self.attn.k(normal_BND), self.attn.v(normal_BND)

    def read(self, prepared: Prepared, scales_TKB: TaskScales | None = None) -> Float[Tensor, "B 1 D"]:
        """Let the newest token attend, then pass the MLP."""
        tokens_TD = self.tokens_TD()
        attention_B, mlp_B = (None, None) if scales_TKB is None else scales_TKB[0]
        read_B1D = self.attn(self.norm1(tokens_TD), *prepared)
        e_B1D = residual(tokens_TD[-1:].expand_as(read_B1D), read_B1D, attention_B)
        return residual(e_B1D, self.mlp(self.norm2(e_B1D)), mlp_B)

    def attention(self, prepared: Prepared) -> Float[Tensor, "B 1 N"]:
        """Return the newest token's weights of the patches; it also attends to tokens, so they sum to one at most."""
        return self.attn.weights(self.norm1(self.tokens_TD()), prepared[0])

    def structure(self) -> dict[str, Plain]:
        """Return the options; the encoder's sizes are the rest."""
        return {"kind": "knowledge_transfer", "expansion": self.expansion, **self._options}
