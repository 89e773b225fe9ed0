"""The interface of decoders, which turn the patches of an image into one embedding for each task, or one for all tasks:
the growing part of the transformers of DyTox's family.

A decoder has a shared half and something that a task brings (DyTox: a token; DAFormer: a bank of keys). The shared half
is computed from the patches once, in :meth:`TaskDecoder.prepare`, whose shapes never grow and which may be compiled;
:meth:`TaskDecoder.read` then gives the embeddings of all tasks.

Legend: B batch, N patches, T embeddings, D width, F size of what a task brings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn

from cl_lightning.core.types import Plain

Prepared = tuple[Float[Tensor, "B ..."], ...]
"""Tensors that a decoder computes from the patches before it looks at any task."""
TaskScales = Float[Tensor, "T 2 B"]
"""Multipliers of the attention and the MLP branch, per embedding and image."""


class TaskDecoder(nn.Module, ABC):
    """A module from patches to task embeddings."""

    brings: str
    """Name of what a task brings, in one word, which is part of the names of :meth:`parts`."""
    embeds_each = True
    """True if there is an embedding for whatever a task brought; False: always one."""
    drop_path: float | None = None
    """Stochastic-depth rate of its branches; None: the one that the encoder says (``Encoder.drop_path``)."""

    def __init__(self, *, expansion: bool) -> None:
        """``expansion``: a task brings something of its own; without, all tasks share what the first one brought
        (T = 1), which is trained further.
        """
        super().__init__()
        self.expansion = expansion

    def grow(self) -> None:
        """Take in a task; draws from torch's current stream."""
        if self.expansion or self.count() == 0:
            self.append()

    @abstractmethod
    def append(self) -> None:
        """Append what a task brings."""

    @abstractmethod
    def grown(self) -> list[list[nn.Parameter]]:
        """Return the parameters that each task brought, oldest first."""

    def count(self) -> int:
        """Return how many tasks have brought something."""
        return len(self.grown())

    def embeddings(self) -> int:
        """Return T, the number of embeddings of an image."""
        return self.count() if self.embeds_each else 1

    @abstractmethod
    def prepare(self, patches_BND: Float[Tensor, "B N D"]) -> Prepared:
        """Compute the half that no task changes."""

    @abstractmethod
    def read(self, prepared: Prepared, scales_TKB: TaskScales | None = None) -> Float[Tensor, "B T D"]:
        """Return the embeddings; ``scales_TKB`` multiplies the residual branches."""

    @abstractmethod
    def attention(self, prepared: Prepared) -> Float[Tensor, "B T N"]:
        """Return the share of each patch in what an embedding reads, mean over heads; for figures."""

    @abstractmethod
    def task_vectors(self) -> Float[Tensor, "_tasks F"]:
        """Return what each task brought as a vector, oldest first; for figures."""

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return all parameters: the shared ones as ``decoder``, then those that old tasks and the newest brought.

        What all tasks share for lack of expansion counts as the newest.
        """
        *old, newest = self.grown() or [[]]
        grown = {id(parameter) for of_task in (*old, newest) for parameter in of_task}
        return {
            "decoder": [parameter for parameter in self.parameters() if id(parameter) not in grown],
            f"old_{self.brings}s": [parameter for of_task in old for parameter in of_task],
            f"new_{self.brings}": newest,
        }

    @abstractmethod
    def structure(self) -> dict[str, Plain]:
        """Return a plain mapping with the ``kind`` and what its shapes need beyond the encoder's sizes."""

    def forward(
        self, patches_BND: Float[Tensor, "B N D"], scales_TKB: TaskScales | None = None
    ) -> Float[Tensor, "B T D"]:
        """Run both halves."""
        return self.read(self.prepare(patches_BND), scales_TKB)
