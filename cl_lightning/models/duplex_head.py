"""DKT's duplex classifier: a stable head of all old classes and a plastic head of the newest, both on one embedding.

Gao et al., DKT (CVPR 2023), section 3. When a task arrives, the plastic head is merged into the stable one and made
anew. The public code copies the rows of both maps, draws the biases of all old classes anew and loses the plastic
head's norm, so that every old score jumps (``merge="published"``). Nothing forces that: each head's norm can be folded
into its map, W' = W diag(gamma) and b' = b + W beta, after which both share the norm (1, 0) and no score changes
(``merge="exact"``). Unlike the public code, it takes tasks of any sizes.

Legend: B batch, D width, C classes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cl_lightning.core.types import Plain
from cl_lightning.models.heads import Embeddings, Head, TaskClassifier

MERGES = ("published", "exact")
"""Ways to take the plastic head into the stable one."""


class DuplexHead(TaskClassifier):
    """A head of the classes of the first task and of all that were merged into it, and one of the newest task's."""

    def __init__(self, dim: int, *, merge: str) -> None:
        """``dim`` is the width D of the embedding, ``merge`` one of :data:`MERGES`."""
        super().__init__()
        self.dim = dim
        self.merge = merge
        self.stable: Head | None = None
        """The first task's, which alone learns in it; from then on of all classes but the newest task's."""
        self.plastic: Head | None = None
        """The newest task's, from the second task on."""
        self._sizes: list[int] = []

    def grow(self, num_new: int) -> None:
        """Merge the plastic head, if there is one, and make a new one; draws from torch's current stream."""
        self._sizes.append(num_new)
        if self.stable is None:
            self.stable = Head(self.dim, num_new)
            return
        if self.plastic is not None:
            self.stable = _MERGE[self.merge](self.stable, self.plastic)
        self.plastic = Head(self.dim, num_new)

    def sizes(self) -> list[int]:
        """Return the number of classes of each task."""
        return list(self._sizes)

    def forward(self, e_BTD: Embeddings) -> Float[Tensor, "B C"]:
        """Score all classes from the newest embedding, the only one of a decoder that it is made for."""
        return torch.cat([head(e_BTD[:, -1]) for head in self._heads()], dim=-1)

    def _heads(self) -> list[Head]:
        return [head for head in (self.stable, self.plastic) if head is not None]

    def old_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the stable head, once there is a plastic one."""
        return [p for head in self._heads()[:-1] for p in head.parameters()]

    def new_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the plastic head; in the first task of the only one."""
        return [p for head in self._heads()[-1:] for p in head.parameters()]

    def structure(self) -> dict[str, Plain]:
        """Return its kind and the way of merging."""
        return {"kind": "duplex", "merge": self.merge}


def _room(stable: Head, plastic: Head) -> Head:
    """Return a new head for the classes of both."""
    made = Head(stable.head.in_features, stable.head.out_features + plastic.head.out_features)
    return made.to(stable.head.weight)


@torch.no_grad()
def _published(stable: Head, plastic: Head) -> Head:
    """Copy the rows of both maps and the stable norm; the biases of all classes stay as drawn."""
    merged = _room(stable, plastic)
    merged.head.weight.copy_(torch.cat([stable.head.weight, plastic.head.weight]))
    merged.norm.load_state_dict(stable.norm.state_dict())
    return merged


@torch.no_grad()
def _exact(stable: Head, plastic: Head) -> Head:
    """Fold each norm into its map: no score changes."""
    merged, heads = _room(stable, plastic), (stable, plastic)
    merged.head.weight.copy_(torch.cat([each.head.weight * each.norm.weight for each in heads]))
    biases = [each.head.bias + each.head.weight @ each.norm.bias for each in heads]
    merged.head.bias.copy_(torch.cat(biases))
    return merged


_MERGE = {"published": _published, "exact": _exact}
