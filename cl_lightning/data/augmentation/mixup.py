"""MixUp: convex combinations of image pairs and of their targets (Zhang et al., ICLR 2018), as DyTox+ uses it.

A batch is made of equal consecutive parts, one for each virtual replica. Within a part the partner is the part in
reverse order, and each part has a ratio of its own: what separate processes would do.

Legend: B batch, R replicas, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key


def mix_ratio(key: Key, alpha: float) -> float:
    """Return a draw from Beta(alpha, alpha), alpha > 0, by inversion: in [0, 1]."""
    from scipy.special import betaincinv

    return float(betaincinv(alpha, alpha, rng.scalar(key)))


def one_hot(labels_B: Tensor, num_classes: int, smoothing: float = 0.0) -> Tensor:
    """Return (B, C) float32 targets: smoothing / C everywhere, plus 1 - smoothing at the label; rows sum to one.

    Computed where the labels are, without reading them: a label outside 0 .. C - 1 is not noticed.
    """
    classes_C = torch.arange(num_classes, device=labels_B.device)
    return (labels_B[:, None] == classes_C).float() * (1.0 - smoothing) + smoothing / num_classes


def mixup(images: Tensor, targets: Tensor, ratios: Sequence[float] | Tensor) -> tuple[Tensor, Tensor]:
    """Mix float images (B, ...) with their partners, and targets (B, C) alike.

    ``ratios`` (R,) is the share of an image against its partner, one a replica; B is a multiple of R. On the host
    they are sent to the images' device without waiting for it.
    """
    assert images.is_floating_point(), f"mixing {images.dtype} images would cut the ratios to 0: normalise first"
    return mix(images, ratios), mix(targets, ratios)


def mix(values: Tensor, ratios: Sequence[float] | Tensor) -> Tensor:
    """Mix float values (B, ...) of images with their partners', as :func:`mixup` does."""
    shares = torch.as_tensor(ratios, dtype=torch.float64)
    assert len(values) % len(shares) == 0, f"{len(values)} images have no {len(shares)} equal parts"
    parts = values.unflatten(0, (len(shares), -1))
    # The partner's share is rounded from the exact one, so that both are as close to it as the type allows.
    own, other = (
        share.to(values.device, values.dtype, non_blocking=True).view(-1, *[1] * (parts.ndim - 1))
        for share in (shares, 1 - shares)
    )
    return (own * parts + other * parts.flip(1)).flatten(0, 1)
