"""Pooled outputs distillation: what may move in a feature map, and what may not.

Douillard, Cord, Ollion, Robert & Valle, PODNet (ECCV 2020), section 3.1.

Legend: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.losses.precision import at_least_float32


def pod_spatial(
    student: Sequence[Float[Tensor, "B _C _H _W"]], teacher: Sequence[Float[Tensor, "B _C _H _W"]]
) -> Float[Tensor, ""]:
    """Return the distance of student and teacher after pooling, mean over images, then over maps (equation 5).

    A map's squares are summed over its width and over its height, both results side by side brought to length one:
    activation may move within a row or a column, not between them. It is 0, with gradient 0, for equal maps.
    """
    pairs = zip(student, teacher, strict=True)
    return torch.stack([(_pooled(ours) - _pooled(theirs)).norm(dim=-1).mean() for ours, theirs in pairs]).mean()


def _pooled(a_BCHW: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C*(H+W)"]:
    squares_BCHW = at_least_float32(a_BCHW).square()
    over_width, over_height = squares_BCHW.sum(dim=3).flatten(1), squares_BCHW.sum(dim=2).flatten(1)
    return F.normalize(torch.cat([over_width, over_height], dim=1), dim=-1)
