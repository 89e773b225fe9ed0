"""DyTox's decoder (section 3.2): a token per task attends to the patches of an image.

The published code runs the block once for every token. The tokens do not depend on the image and never attend to one
another, so all of them can pass together: keys and values of the patches are computed once, and query i sees its own
key and the patches'. The result is the loop's, up to rounding; stochastic depth still draws for every (image, task).

Legend: B batch, N patches, T tokens, D width.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from cl_lightning.core.types import Plain
from cl_lightning.models.layers import MLP, trunc_normal_linear
from cl_lightning.models.task_decoder import Prepared, TaskScales
from cl_lightning.models.token_attention_op import patch_weights, token_attention
from cl_lightning.models.token_decoder import TokenDecoder, Tokens

Patches = Float[Tensor, "B N D"]
Embeddings = Float[Tensor, "B T D"]


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

    def forward(self, tokens_TD: Tokens, k_BND: Patches, v_BND: Patches) -> Embeddings:
        """Return softmax(q k^T / sqrt(E)) v, one query a task; the tokens are already normalised."""
        q_TD, own_k_TD, own_v_TD = self.q(tokens_TD), self.k(tokens_TD), self.v(tokens_TD)
        return self.proj(token_attention(q_TD, own_k_TD, own_v_TD, k_BND, v_BND, self.num_heads))

    def weights(self, tokens_TD: Tokens, k_BND: Patches) -> Float[Tensor, "B T N"]:
        """Return the attention of the tokens to the patches, mean over heads."""
        q_TD, own_k_TD = self.q(tokens_TD), self.k(tokens_TD)
        return patch_weights(q_TD, own_k_TD, k_BND, self.num_heads)[..., 1:].mean(dim=1)


class TaskAttentionBlock(TokenDecoder):
    """A decoder with a token for each task; all share task attention and an MLP ("TAB" in DyTox)."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float = 4.0, *, expansion: bool = True) -> None:
        super().__init__(expansion=expansion)
        self.dim = dim
        self.norm1 = nn.LayerNorm(dim)
        self.attn = TaskAttention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.tokens = nn.ParameterList()

    def prepare(self, patches_BND: Patches) -> Prepared:
        """Compute keys and values of the patches."""
        normal_BND = self.norm1(patches_BND)
        return self.attn.k(normal_BND), self.attn.v(normal_BND)

    def read(self, prepared: Prepared, scales_TKB: TaskScales | None = None) -> Embeddings:
        """Let every token attend, then pass the MLP."""
        return self.ask(self.tokens_TD(), prepared, scales_TKB)

    def ask(self, tokens_TD: Tokens, prepared: Prepared, scales_TKB: TaskScales | None = None) -> Embeddings:
        """Do as :meth:`read` for tokens that need not be this block's own."""
        e_BTD = tokens_TD + _scaled(self.attn(self.norm1(tokens_TD), *prepared), scales_TKB, 0)
        return e_BTD + _scaled(self.mlp(self.norm2(e_BTD)), scales_TKB, 1)

    def attention(self, prepared: Prepared) -> Float[Tensor, "B T N"]:
        """Return the weights of the patches; each token also attends to itself, so they sum to one at most."""
        return self.attn.weights(self.norm1(self.tokens_TD()), prepared[0])

    def structure(self) -> dict[str, Plain]:
        """Return the options; the encoder's sizes are the rest."""
        return {"kind": "task_attention", "expansion": self.expansion}


def _scaled(branch_BTD: Embeddings, scales_TKB: TaskScales | None, branch: int) -> Embeddings:
    """Multiply a residual branch per task and image if ``scales_TKB`` are given."""
    if scales_TKB is None:
        return branch_BTD
    return branch_BTD * scales_TKB[:, branch].T.unsqueeze(-1).to(branch_BTD.dtype)
