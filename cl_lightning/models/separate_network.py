"""A transformer and a head for each task, with nothing in common: the network of individual models.

The upper reference of MEAT's comparison (Xue et al., CVPR 2022, table 1, "Individual"): it forgets nothing because
nothing is shared, and it grows by a whole transformer a task, so T tasks are T passes.

Legend: B batch, T tasks, D width, C classes.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cl_lightning.core.rng import Key
from cl_lightning.core.types import Features
from cl_lightning.models.heads import only_newest, task_head
from cl_lightning.models.network import Branch, Network
from cl_lightning.models.plain_vit import PlainViT
from cl_lightning.models.tensor_types import Images, Scales

TRANSFORMER = "transformer"


class SeparateNetwork(Network):
    """A network of a transformer and a head for each task."""

    def __init__(self, vit: PlainViT) -> None:
        """Build without any class; ``vit`` is the first task's transformer."""
        super().__init__()
        self.transformers = nn.ModuleList([vit])
        self.heads = nn.ModuleList()

    def grow(self, num_new: int, key: Key) -> None:
        """Add a head, drawn from ``key``, and from the second task on a transformer: a copy of the first task's as it
        is now. To start from other weights, load them into :attr:`transformer` afterwards.
        """
        task = len(self.heads)
        if task > 0:
            self.transformers.append(copy.deepcopy(self.transformers[0]))
        self.heads.append(task_head(self.transformer.dim, num_new, key, task).to(self.transformer.cls_token.device))

    @property
    def transformer(self) -> PlainViT:
        """Transformer of the newest task."""
        return self.transformers[-1]  # type: ignore[return-value]

    def sizes(self) -> list[int]:
        """Return the number of classes of each task."""
        return [head.out_features for head in self.heads]  # type: ignore[misc]

    # ---- training ----------------------------------------------------------------------------------------------------

    def branches(self) -> list[Branch]:
        """Return two branches for each block of the newest transformer: no other is trained."""
        return [Branch(TRANSFORMER, rate) for rate in self.transformer.drop_rates()]

    def newest(self, images: Images, scales: Scales | None = None) -> Features:
        """Return the newest task's embedding (T = 1): one pass, however many tasks there are."""
        return Features(self.transformer(images, scales=scales)[:, None])

    def newest_logits(self, features: Features) -> Float[Tensor, "B C"]:
        """Return the scores of the newest task's classes; the others are minus infinity."""
        return only_newest(self.heads[-1](features.embeddings[:, 0]), sum(self.sizes()[:-1]))

    # ---- evaluation --------------------------------------------------------------------------------------------------

    def forward(self, images: Images, scales: Scales | None = None) -> Features:
        """Return one embedding a task, each of its own transformer; ``scales`` are the newest one's."""
        old = [vit(images) for vit in list(self.transformers)[:-1]]
        return Features(torch.stack([*old, self.transformer(images, scales=scales)], dim=1))

    def logits(self, features: Features) -> Float[Tensor, "B C"]:
        """Concatenate the scores of all heads: head t reads embedding t."""
        return torch.cat([head(features.embeddings[:, t]) for t, head in enumerate(self.heads)], dim=-1)

    # ---- description -------------------------------------------------------------------------------------------------

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the newest task's transformer and head, and those before them."""
        return {
            "old_transformers": [p for vit in list(self.transformers)[:-1] for p in vit.parameters()],
            TRANSFORMER: list(self.transformer.parameters()),
            "old_heads": [p for head in list(self.heads)[:-1] for p in head.parameters()],
            "head": [p for head in list(self.heads)[-1:] for p in head.parameters()],
        }

    def settled(self) -> list[str]:
        """Return the transformers of earlier tasks."""
        return [f"transformers.{k}" for k in range(len(self.transformers) - 1)]

    def structure(self) -> dict[str, Any]:
        """Return the sizes of a transformer, all alike, and the classes of each task."""
        return {"kind": "separate_network", "vit": self.transformer.structure(), "classes": self.sizes()}
