"""Decoders to which a task brings a token: what DyTox's and DKT's have in common.

Legend: T tokens, D width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cl_lightning.models.task_decoder import TaskDecoder

Tokens = Float[Tensor, "T D"]


class TokenDecoder(TaskDecoder):
    """A decoder with a list of tokens; how they read an image is up to the concrete ones."""

    brings = "token"
    dim: int
    tokens: nn.ParameterList
    """(1, 1, D) each, oldest first."""

    def append(self) -> None:
        """Append a token, truncated normal."""
        self.tokens.append(nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, self.dim), std=0.02)))

    def grown(self) -> list[list[nn.Parameter]]:
        """Return the tokens."""
        return [[token] for token in self.tokens]

    def tokens_TD(self) -> Tokens:  # noqa: N802 (shape suffix)
        """Stack all task tokens, oldest first."""
        return torch.cat(list(self.tokens), dim=0)[:, 0]

    def task_vectors(self) -> Tokens:
        """Return the tokens, without gradient."""
        return self.tokens_TD().detach()
