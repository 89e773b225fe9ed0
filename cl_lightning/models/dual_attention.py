"""DAFormer's decoder: ordinary self-attention beside attention to a learned bank of keys, for every task.

Wang et al., DAFormer (IEEE TMM), as its public code computes it. The *self branch* (short-term) is softmax(q k) v. The
*key-bank branch* (long-term) is softmax(q W + b) v, where W (P, E) and b (P) belong to a task and not to an image: row
p is the address of patch p, the same for all heads. So a bank addresses positions and stores no values.
The branches are added; and where DyTox sends one token through its decoder, here all patches pass once a task and are
averaged. A new task's bank is zero: uniform attention, the mean value. DAFormer-M has a bank for each task, DAFormer-S
one for all (``expansion=False``).

Computed in an exact cheaper form. The self branch, queries and values do not depend on the task: once. The mean over
patches commutes with the MLP's second linear map: e = mean(u) + fc2(mean(gelu(fc1(norm2(u))))), with u the residual
stream behind attention; so does stochastic depth, which is one number per image, task and branch. All tasks pass
together, as many at a time as ``ROWS_TOGETHER`` says.

Legend: B batch, N patches, P = N keys of a bank, T tasks (t of them at a time), D width, H heads, E = D / H, F = E and
the columns that carry the biases (``_COLUMNS``).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.core.types import Plain
from cl_lightning.models.attention import attend
from cl_lightning.models.layers import MLP, split_heads, trunc_normal_linear
from cl_lightning.models.task_decoder import Prepared, TaskDecoder, TaskScales

Keys = Float[Tensor, "T P F"]
"""Keys of some banks and, in the next column, their biases; F - E - 1 columns of zeros."""

ROWS_TOGETHER = {"cpu": 1 << 13, "cuda": 1 << 19}
"""Patches of all images and tasks that pass the MLP at a time: more needs memory and, where arithmetic fills the
device, saves nothing.
"""
_COLUMNS = 8
"""Added to queries, keys and values: a bank's biases are one more column of its keys, which meets a one in the query. A
whole eight, because kernels of attention ask for that.
"""


class KeyBank(nn.Module):
    """A bank of one task's keys and their biases."""

    def __init__(self, num_keys: int, head_dim: int, *, zero: bool) -> None:
        """Start from zeros, or as PyTorch initialises a convolution of ``head_dim`` inputs."""
        super().__init__()
        bound = 0.0 if zero else head_dim**-0.5
        self.weight = nn.Parameter(torch.empty(num_keys, head_dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_keys).uniform_(-bound, bound))


class DualAttention(nn.Module):
    """The half of dual attention that tasks share: queries, keys and values of the patches."""

    def __init__(self, dim: int, num_heads: int, *, out_proj: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(dim, dim, bias=False)
        self.v = nn.Linear(dim, dim, bias=False)
        self.proj = nn.Linear(dim, dim) if out_proj else None
        for linear in (self.q, self.k, self.v, self.proj):
            if linear is not None:
                trunc_normal_linear(linear)

    def forward(
        self, z_BND: Float[Tensor, "B N D"]
    ) -> tuple[Float[Tensor, "B H N F"], Float[Tensor, "B H N F"], Float[Tensor, "B N D"]]:
        """Return scaled queries with a one behind them, padded values, and the output of the self branch."""
        q, k, v = (split_heads(linear(z_BND), self.num_heads) for linear in (self.q, self.k, self.v))
        own_BHNE = attend(q, k, v)
        one = F.pad(q * q.shape[-1] ** -0.5, (0, 1), value=1.0)
        return F.pad(one, (0, _COLUMNS - 1)), F.pad(v, (0, _COLUMNS)), own_BHNE.transpose(1, 2).flatten(2)


class DualAttentionBlock(TaskDecoder):
    """A decoder with a key bank for each task; all share dual attention and an MLP on the patches' residual stream."""

    brings = "bank"

    def __init__(
        self,
        dim: int,
        num_heads: int,
        num_patches: int,
        mlp_ratio: float = 4.0,
        *,
        expansion: bool = True,
        out_proj: bool = False,
    ) -> None:
        """``out_proj`` adds the output projection that the public code builds and never calls."""
        super().__init__(expansion=expansion)
        self._bank_shape = (num_patches, dim // num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.attn = DualAttention(dim, num_heads, out_proj=out_proj)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim, int(dim * mlp_ratio))
        self.banks = nn.ModuleList()

    def append(self) -> None:
        """Append a key bank: the first one random, the others zero."""
        self.banks.append(KeyBank(*self._bank_shape, zero=len(self.banks) > 0))

    def grown(self) -> list[list[nn.Parameter]]:
        """Return the keys and biases of each bank."""
        return [list(bank.parameters()) for bank in self.banks]

    def _stacked(self) -> Keys:
        """Stack the keys and biases of all banks."""
        banks: list[KeyBank] = list(self.banks)  # type: ignore[arg-type]
        keys_TPF = torch.stack([torch.cat([bank.weight, bank.bias[:, None]], dim=1) for bank in banks])
        return F.pad(keys_TPF, (0, _COLUMNS - 1))

    def prepare(self, patches_BND: Float[Tensor, "B N D"]) -> Prepared:
        """Return the patches themselves, and the output of :class:`DualAttention` on them."""
        return patches_BND, *self.attn(self.norm1(patches_BND))

    def read(self, prepared: Prepared, scales_TKB: TaskScales | None = None) -> Float[Tensor, "B T D"]:
        """Read every bank, as many at a time as fit."""
        together = _tasks_together(prepared[0], self.count())
        keys = self._stacked().split(together)
        scales = [None] * len(keys) if scales_TKB is None else scales_TKB.split(together)
        read = [self._read(prepared, *group) for group in zip(keys, scales, strict=True)]
        return torch.cat(read).transpose(0, 1)

    def _read(self, prepared: Prepared, keys_tPF: Keys, scales_tKB: TaskScales | None) -> Float[Tensor, "T B D"]:
        """Return the embeddings of some tasks."""
        x_BND, q, v, own_BND = prepared
        read_tBND = _read_keys(q, keys_tPF, v)
        if self.attn.proj is None and scales_tKB is None:
            u_tBND = (x_BND + own_BND) + read_tBND
        else:
            both_tBND = read_tBND + own_BND
            both_tBND = both_tBND if self.attn.proj is None else self.attn.proj(both_tBND)
            u_tBND = x_BND + _scaled(both_tBND, scales_tKB, 0)
        hidden_tBF = F.gelu(self.mlp.fc1(self.norm2(u_tBND))).mean(dim=2)
        return u_tBND.mean(dim=2) + _scaled(self.mlp.fc2(hidden_tBF), scales_tKB, 1)

    def attention(self, prepared: Prepared) -> Float[Tensor, "B T N"]:
        """Average the key-bank branch over the patches that ask; the self branch is the same for all tasks."""
        q_BHNF, keys_TPF = prepared[1], self._stacked()
        return torch.einsum("bhnf,tpf->bhntp", q_BHNF, keys_TPF).softmax(dim=-1).mean(dim=(1, 2))

    def task_vectors(self) -> Float[Tensor, "T keys_and_biases"]:
        """Return the keys and biases of each bank in a row."""
        return self._stacked()[..., : 1 - _COLUMNS].detach().flatten(1)

    def structure(self) -> dict[str, Plain]:
        """Return the options; the encoder's sizes are the rest."""
        return {"kind": "dual_attention", "expansion": self.expansion, "out_proj": self.attn.proj is not None}


def _tasks_together(x_BND: Float[Tensor, "B N D"], tasks: int) -> int:
    if torch.compiler.is_compiling():  # an export is for batches of any size
        return tasks
    return max(1, ROWS_TOGETHER[x_BND.device.type] // (x_BND.shape[0] * x_BND.shape[1]))


def _read_keys(
    q_BHNF: Float[Tensor, "B H N F"], keys_tPF: Keys, v_BHNF: Float[Tensor, "B H N F"]
) -> Float[Tensor, "T B N D"]:
    """Return softmax(q W + b) v of the patches of each image through each bank.

    One attention whose batch is tasks times images, so that weights of every patch to every key are never in memory.
    """
    images, heads = q_BHNF.shape[:2]
    tasks = len(keys_tPF)
    q, v = (z.expand(tasks, -1, -1, -1, -1).flatten(0, 1) for z in (q_BHNF, v_BHNF))
    keys = keys_tPF.to(q.dtype)[:, None, None].expand(-1, images, heads, -1, -1).flatten(0, 1)
    read = attend(q, keys, v, scale=1.0)[..., :-_COLUMNS]
    return read.transpose(1, 2).flatten(2).unflatten(0, (tasks, images))


def _scaled(
    branch_tBX: Float[Tensor, "T B *rest"], scales_tKB: TaskScales | None, branch: int
) -> Float[Tensor, "T B *rest"]:
    """Multiply a residual branch per task and image if ``scales_tKB`` are given."""
    if scales_tKB is None:
        return branch_tBX
    return branch_tBX * scales_tKB[:, branch].to(branch_tBX.dtype)[(...,) + (None,) * (branch_tBX.ndim - 2)]
