"""MixUp: convex combinations of image pairs and of their targets (Zhang et al., ICLR 2018), as DyTox+ uses it.

A batch is made of equal consecutive parts, one for each virtual replica. Within a part the partner is the part in reverse order, and each
part has a ratio of its own: what separate processes would do.

Legend: B batch, R replicas, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cl_lightning import rng
from cl_lightning.rng import Key


def mix_ratio(key: Key, alpha: float) -> float:
    """A draw from Beta(alpha, alpha) by inversion, in (0, 1)."""
    from scipy.special import betaincinv

    return float(betaincinv(alpha, alpha, rng.scalar(key)))


def one_hot(labels_B: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """(B, C) float targets: smoothing / C everywhere, 1 - smoothing more at the label; made on the labels' device."""
    classes_C = torch.arange(num_classes, device=labels_B.device)
    return (labels_B[:, None] == classes_C).float() * (1.0 - smoothing) + smoothing / num_classes


def mixup(images: Tensor, targets: Tensor, ratios: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Mix (B, ...) images and (B, C) targets; ``ratios`` (R,) is the share of an image against its partner, one a replica.

    B is a multiple of R.
    """
    assert len(images) % len(ratios) == 0, f"{len(images)} images have no {len(ratios)} equal parts"
    return _mix(images, ratios), _mix(targets, ratios)


def _mix(values: Tensor, ratios: Sequence[float]) -> Tensor:
    parts = values.unflatten(0, (len(ratios), -1))
    ratio = torch.tensor(ratios, dtype=values.dtype, device=values.device).view(-1, *[1] * (parts.ndim - 1))
    return (ratio * parts + (1 - ratio) * parts.flip(1)).flatten(0, 1)
