"""Classifiers that grow with the classes.

Legend: B batch, T tasks, D width, C classes, c classes of one task.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Head(nn.Module):
    """LayerNorm and a linear map: one task's classifier in DyTox."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, e_BD: Tensor) -> Tensor:
        """(B, D) -> (B, c)."""
        return self.head(self.norm(e_BD))


class IndependentHeads(nn.Module):
    """Head i reads embedding i; scores are concatenated in order of arrival (DyTox's "1-1" classifiers).

    All heads are applied at once: the embeddings are standardised together, each head's LayerNorm scale and shift are
    folded into its linear map, and the maps run as one batched product (padded to the largest task), so that fifty
    heads cost one kernel, not a hundred.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.heads = nn.ModuleList()

    def grow(self, num_new: int) -> None:
        """Append a head for ``num_new`` classes; draws from torch's current stream."""
        self.heads.append(Head(self.dim, num_new))

    def sizes(self) -> list[int]:
        """Classes of each head."""
        return [head.head.out_features for head in self.heads]  # type: ignore[union-attr,misc]

    def forward(self, e_BTD: Tensor) -> Tensor:
        """(B, T, D) -> (B, C)."""
        sizes = self.sizes()
        weights, biases = zip(*(self._folded(head) for head in self.heads), strict=True)  # type: ignore[arg-type]
        weight_TcD = nn.utils.rnn.pad_sequence(list(weights), batch_first=True)
        bias_Tc = nn.utils.rnn.pad_sequence(list(biases), batch_first=True)
        standard_TBD = F.layer_norm(e_BTD, (self.dim,)).transpose(0, 1)
        scores_TBc = torch.baddbmm(bias_Tc[:, None, :], standard_TBD.to(weight_TcD.dtype), weight_TcD.transpose(1, 2))
        if min(sizes) == max(sizes):
            return scores_TBc.transpose(0, 1).flatten(1)
        return torch.cat([scores_TBc[t, :, :size] for t, size in enumerate(sizes)], dim=-1)

    @staticmethod
    def _folded(head: Head) -> tuple[Tensor, Tensor]:
        weight = head.head.weight * head.norm.weight
        return weight, head.head.bias + head.head.weight @ head.norm.bias


class GrowingLinear(nn.Module):
    """One linear classifier to which rows are added: the head of methods that expand nothing else."""

    def __init__(self, dim: int, bias: bool = True) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.empty(0, dim))
        self.bias = nn.Parameter(torch.empty(0)) if bias else None

    def grow(self, num_new: int) -> None:
        """Add rows drawn as ``nn.Linear`` draws its own; the old rows keep their values."""
        new = nn.Linear(self.dim, num_new, bias=self.bias is not None)
        self.weight = nn.Parameter(torch.cat([self.weight.data, new.weight.data.to(self.weight)]))
        if self.bias is not None:
            self.bias = nn.Parameter(torch.cat([self.bias.data, new.bias.data.to(self.bias)]))

    def forward(self, e_BD: Tensor) -> Tensor:
        """(B, D) -> (B, C)."""
        return F.linear(e_BD, self.weight, self.bias)
