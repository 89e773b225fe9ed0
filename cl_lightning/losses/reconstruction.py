"""Reconstruction of masked patches: squared error to pixels that are normalised patch by patch.

He et al., Masked autoencoders are scalable vision learners (CVPR 2022), section 3; as DRDN's branch has it (arXiv
2607.01630). The formula printed there is the sum over a patch's values; the mean of them is the default here.

Legend: B batch, N patches, P side of a patch, F = channels P^2 values of a patch.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

REDUCTIONS = ("mean", "sum")
"""Mean or sum over the values of a patch."""
_EPSILON = 1e-6


def patches_of(images: Float[Tensor, "B C H W"], size: int) -> Float[Tensor, "B N F"]:
    """Return the values of each patch, channel by channel, row by row; patches in rows from the top left."""
    grid = images.unflatten(3, (-1, size)).unflatten(2, (-1, size)).permute(0, 2, 4, 1, 3, 5)
    return grid.flatten(3).flatten(1, 2)


def normalised(patches_BNF: Float[Tensor, "B N F"]) -> Float[Tensor, "B N F"]:
    """Return (p - mean) / sqrt(var + 1e-6) of each patch, with the unbiased variance (0 for a single value)."""
    correction = min(1, patches_BNF.shape[-1] - 1)
    variance, mean = torch.var_mean(patches_BNF, dim=-1, correction=correction, keepdim=True)
    return (patches_BNF - mean) / (variance + _EPSILON).sqrt()


def reconstruction_errors(
    predicted_BNF: Float[Tensor, "B N F"],
    masked_BN: Bool[Tensor, "B N"],
    images: Float[Tensor, "B C H W"],
    reduction: str = "mean",
) -> Float[Tensor, " B"]:
    """Return the error of each image: the mean over its masked patches of the mean (or sum) of squared differences.

    Args:
        predicted_BNF: values of all patches, of which the masked ones count.
        masked_BN: True for the masked patches, at least one of each image.
        images: as the network sees them.
        reduction: one of :data:`REDUCTIONS`.
    """
    size = int((predicted_BNF.shape[-1] // images.shape[1]) ** 0.5)
    with torch.autocast(images.device.type, enabled=False):
        target_BNF = normalised(patches_of(images.float() if images.dtype != torch.float64 else images, size))
        squared_BNF = (predicted_BNF.to(target_BNF.dtype) - target_BNF).square()
        error_BN = squared_BNF.mean(dim=-1) if reduction == "mean" else squared_BNF.sum(dim=-1)
        weights_BN = masked_BN.to(error_BN.dtype)
        return (error_BN * weights_BN).sum(dim=1) / weights_BN.sum(dim=1)
