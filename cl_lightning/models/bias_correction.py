"""A linear classifier with a correction of each task's scores: the head of BiC (Wu et al., CVPR 2019, section 4.3).

Legend: B batch, T tasks, D width, C classes seen.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cl_lightning.core.types import Plain
from cl_lightning.models.heads import GrowingClassifier, GrowingLinear


class BiasCorrectedLinear(GrowingClassifier):
    """Rows with a bias; the scores z of a task's classes become beta z + gamma (equation 4).

    A pair begins as (1, 0), which changes nothing. With ``every`` pair kept, each belongs to its task for ever, in
    training and in prediction; else growth sets the last one back too, so that only the newest task is ever corrected
    (the authors' code). So the scores are the right ones at any time, and nobody has to know the phase.
    """

    def __init__(self, dim: int, *, every: bool) -> None:
        super().__init__()
        self.linear = GrowingLinear(dim, bias=True)
        self.every = every
        self.pairs = nn.ParameterList()
        """(2,) for each task: beta and gamma."""
        self._sizes: list[int] = []

    def grow(self, num_new: int) -> None:
        """Add rows, drawn as ``nn.Linear`` draws its own, and a pair that changes nothing."""
        self.linear.grow(num_new)
        if not self.every:
            for pair in self.pairs:
                pair.data.copy_(torch.tensor([1.0, 0.0]))
        self.pairs.append(nn.Parameter(torch.tensor([1.0, 0.0])))
        self._sizes.append(num_new)

    @property
    def newest(self) -> nn.Parameter:
        """(2,): beta and gamma of the newest task."""
        return self.pairs[-1]

    def forward(self, e_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B C"]:
        """Classify each embedding, and correct the scores."""
        return self.correct(self.linear(e_BD))

    def correct(self, z_BC: Float[Tensor, "B C"]) -> Float[Tensor, "B C"]:
        """Return the corrected scores, in float32 or float64."""
        pairs_T2 = torch.stack(list(self.pairs))
        beta_C, gamma_C = (
            torch.cat([value.expand(size) for value, size in zip(column, self._sizes, strict=True)])
            for column in pairs_T2.unbind(dim=1)
        )
        return z_BC.to(pairs_T2.dtype) * beta_C + gamma_C

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the rows of all classes, the pairs of earlier tasks, and the newest pair."""
        pairs = list(self.pairs)
        return {
            "classifier": list(self.linear.parameters()),
            "old_corrections": pairs[:-1],
            "correction": pairs[-1:],
        }

    def structure(self) -> dict[str, Plain]:
        """Return its kind, and which pairs are kept."""
        return {"head": "bias_corrected", "every_pair": self.every}
