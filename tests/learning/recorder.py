"""A recorder that needs no GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cl_lightning.learning.cuda_graph import Inputs, Work


class ByHand:
    """Records on a CPU: a replay does the work again on what lies where it was recorded."""

    def __init__(self) -> None:
        self.runs = self.records = self.replays = 0

    def run(self, work: Work, inputs: Inputs) -> Tensor:
        self.runs += 1
        return work(*inputs)

    def record(self, work: Work, inputs: Inputs) -> tuple[Callable[[], object], Tensor]:
        self.records += 1
        kept = list(inputs)
        outcome = torch.empty(0)

        def replay() -> None:
            self.replays += 1
            found = work(*kept)
            outcome.resize_(found.shape).copy_(found)

        return replay, outcome
