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

from cl_lightning.types import Plain

Prepared = tuple[Tensor, ...]
"""What a decoder makes of the patches before it looks at any task."""


class TaskDecoder(nn.Module, ABC):
    """Patches (B, N, D) to task embeddings (B, T, D)."""

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
    def count(self) -> int:
        """T, the embeddings."""

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

    @abstractmethod
    def parts(self) -> dict[str, list[nn.Parameter]]:
        """All parameters: those that tasks share as ``decoder``, then what old tasks and the newest brought."""

    @abstractmethod
    def structure(self) -> dict[str, Plain]:
        """A plain mapping with the ``kind`` and what its shapes need beyond the encoder's sizes."""

    def forward(self, patches_BND: Tensor, scales_TKB: Tensor | None = None) -> Tensor:
        """Both halves."""
        return self.read(self.prepare(patches_BND), scales_TKB)


def split_newest(grown: nn.ParameterList) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What old tasks brought, and the newest: where one serves all tasks it is the newest."""
    return list(grown)[:-1], list(grown)[-1:]
