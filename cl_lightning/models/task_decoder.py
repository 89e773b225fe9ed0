"""The seam between the patches of an image and one embedding for each task: what grows in the transformers of DyTox's
family.

A decoder has a shared half and something that a task brings (DyTox: a token; DAFormer: a bank of keys). What no task
changes is made of the patches once, in :meth:`TaskDecoder.prepare`, whose shapes never grow and which may be compiled;
:meth:`TaskDecoder.read` then answers for all tasks.

Legend: B batch, N patches, T tasks, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from cl_lightning.core.types import Plain

Prepared = tuple[Tensor, ...]
"""What a decoder makes of the patches before it looks at any task."""


class TaskDecoder(nn.Module, ABC):
    """Patches (B, N, D) to task embeddings (B, T, D)."""

    brings: str
    """What a task brings, in one word, which is part of the names of :meth:`parts`."""

    def __init__(self, *, expansion: bool) -> None:
        """``expansion``: a task brings something of its own; without, what the first task brought serves all (T = 1)
        and goes on learning.
        """
        super().__init__()
        self.expansion = expansion

    def grow(self) -> None:
        """Take in a task; what is random is drawn from torch's current stream."""
        if self.expansion or self.count() == 0:
            self.append()

    @abstractmethod
    def append(self) -> None:
        """Append what a task brings."""

    @abstractmethod
    def grown(self) -> list[list[nn.Parameter]]:
        """What each task brought, oldest first."""

    def count(self) -> int:
        """T: as many embeddings as tasks have brought something."""
        return len(self.grown())

    @abstractmethod
    def prepare(self, patches_BND: Tensor) -> Prepared:
        """The half that no task changes."""

    @abstractmethod
    def read(self, prepared: Prepared, scales_TKB: Tensor | None = None) -> Tensor:
        """Task embeddings (B, T, D); ``scales_TKB`` (T, 2, B) multiplies the attention and the MLP branch per task and
        image.
        """

    @abstractmethod
    def attention(self, prepared: Prepared) -> Tensor:
        """(B, T, N) the share of each patch in what the task reads, mean over heads; for pictures."""

    @abstractmethod
    def task_vectors(self) -> Tensor:
        """(T, F) what each task brought, oldest first; for pictures."""

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """All parameters: those that tasks share as ``decoder``, then what old tasks and the newest brought. What
        serves all tasks is the newest.
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
        """A plain mapping with the ``kind`` and what its shapes need beyond the encoder's sizes."""

    def forward(self, patches_BND: Tensor, scales_TKB: Tensor | None = None) -> Tensor:
        """Both halves."""
        return self.read(self.prepare(patches_BND), scales_TKB)
