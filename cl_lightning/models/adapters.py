"""Adapters beside the MLPs of a plain vision transformer: few weights that fit it to the first task.

Chen et al., AdaptFormer (NeurIPS 2022), as RanPAC's first-session adaptation uses it (McDonnell et al., NeurIPS 2023):
in each block y = x + MLP(LN(x)) + s up(dropout(relu(down(x)))), on x itself. ``up`` starts from zero, so that nothing
changes before it is trained. The transformer stays as it is.

Dropout is noise that comes with the pass: one stream an image, from which the device draws.

Legend: B batch, n tokens, D width, w width of an adapter.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.models.backbone import Backbone
from cl_lightning.models.plain_vit import Tokens
from cl_lightning.models.tensor_types import Images, Maps, Noise
from cl_lightning.models.vit_backbone import PlainViTBackbone
from cl_lightning.models.weights_file import Weights


class Adapter(nn.Module):
    """Two linear maps with a narrow layer between them."""

    def __init__(self, dim: int, width: int, *, scale: float, dropout: float, index: int) -> None:
        """``scale`` is s, ``dropout`` the share of the narrow layer that is left out, ``index`` the block's number."""
        super().__init__()
        self.down = nn.Linear(dim, width)
        self.up = nn.Linear(width, dim)
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        for zero in (self.up.weight, self.down.bias, self.up.bias):
            nn.init.zeros_(zero)
        self._scale, self._dropout, self._index = scale, dropout, index

    def forward(self, x_BnD: Tokens, streams_B: Int64[Tensor, " B"] | None = None) -> Tokens:
        """Return what is added to the block's output; without ``streams_B`` nothing is left out."""
        narrow_Bnw = self.down(x_BnD).relu()
        if streams_B is not None and self._dropout > 0:
            narrow_Bnw = narrow_Bnw * self._kept(streams_B, narrow_Bnw)
        return self._scale * self.up(narrow_Bnw)

    def _kept(self, streams_B: Int64[Tensor, " B"], like: Float[Tensor, "B n w"]) -> Float[Tensor, "B n w"]:
        size = like[0].numel()
        slots = self._index * size + torch.arange(size, device=like.device)
        drawn = rng.uniform_of(streams_B[:, None], slots).view_as(like)
        return (drawn >= self._dropout).to(like.dtype) / (1 - self._dropout)


class AdaptedViTBackbone(Backbone):
    """A plain vision transformer with an adapter in each block, read at its own class token. It has no stochastic
    depth.
    """

    def __init__(
        self,
        *,
        vit: dict[str, Any],
        width: int = 64,
        scale: float = 0.1,
        dropout: float = 0.1,
    ) -> None:
        """``vit`` has the sizes of :class:`~cl_lightning.models.plain_vit.PlainViT`; the others are
        :class:`Adapter`'s.
        """
        base = PlainViTBackbone(**{key: value for key, value in vit.items() if key != "kind"})
        super().__init__(dim=base.dim)
        self.base = base
        self.adapters = nn.ModuleList(
            Adapter(base.dim, width, scale=scale, dropout=dropout, index=k) for k in range(len(base.vit.blocks))
        )
        self._sizes = {"width": width, "scale": scale, "dropout": dropout}

    def noise(self, key: Key, positions_B: Int64[Tensor, " B"]) -> Noise:
        """Return the stream of each image."""
        return rng.streams(key.fold("adapters"), positions_B)[None]

    def forward(self, images: Images, scales: Noise | None = None) -> tuple[Float[Tensor, "B D"], Maps]:
        """Return the class token of each image; there are no maps. ``scales`` are the streams of :meth:`noise`."""
        streams_B = None if scales is None else scales[0]
        added = [lambda x, adapter=adapter: adapter(x, streams_B) for adapter in self.adapters]
        return self.base.vit(images, adapters=added), ()

    def start(self) -> Backbone:
        """Return the transformer without adapters."""
        return self.base

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of the transformer and of the adapters."""
        return {"backbone": list(self.base.parameters()), "adapters": list(self.adapters.parameters())}

    def renamed(self, weights: Weights) -> dict[str, Tensor]:
        """Return weights as the transformer without adapters names them."""
        return self.base.renamed(weights)

    def structure(self) -> dict[str, Any]:
        """Return the sizes of the transformer and of the adapters."""
        return {"kind": "adapted_vit", "vit": self.base.structure(), **self._sizes}
