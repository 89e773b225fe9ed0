"""A linear classifier with a row for every class to come, as much published code has it.

Legend: B batch, D width, C classes seen, K rows.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.core.types import Plain
from cl_lightning.models.heads import GrowingClassifier


class AllocatedLinear(GrowingClassifier):
    """A linear classifier, with biases, of which growth shows further rows. Those of classes to come are scored by
    :meth:`all_scores` alone; a loss that looks at them trains them.
    """

    def __init__(self, dim: int, outputs: int) -> None:
        """Draw ``outputs`` rows as ``nn.Linear`` draws its own, from torch's current stream; no class is seen yet."""
        super().__init__()
        self.dim = dim
        self.rows = nn.Linear(dim, outputs)
        self.seen = 0

    def grow(self, num_new: int) -> None:
        """Show ``num_new`` further rows; those that are lacking are drawn."""
        self.seen += num_new
        lacking = self.seen - self.rows.out_features
        if lacking > 0:
            new, old = nn.Linear(self.dim, lacking), self.rows
            self.rows = nn.Linear(self.dim, self.seen).to(old.weight)
            self.rows.weight.data = torch.cat([old.weight.data, new.weight.data.to(old.weight)])
            self.rows.bias.data = torch.cat([old.bias.data, new.bias.data.to(old.bias)])

    def forward(self, e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Score the classes seen."""
        return F.linear(e_BD, self.rows.weight[: self.seen], self.rows.bias[: self.seen])

    def all_scores(self, e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B K"]:
        """Score every row, those of classes to come too."""
        return self.rows(e_BD)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return one part: all rows."""
        return {"classifier": list(self.parameters())}

    def structure(self) -> dict[str, Plain]:
        """Return its kind and the number of rows."""
        return {"head": "allocated", "outputs": self.rows.out_features}
