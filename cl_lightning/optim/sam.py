"""Sharpness-aware minimisation, plain and adaptive.

Foret et al., SAM (ICLR 2021); Kwon et al., ASAM (ICML 2021), equation 4 with the element-wise operator |w| and eta = 0:
climb to the worst point of the neighbourhood, take the gradient there, come back and step with it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def ascend(parameters: Sequence[nn.Parameter], rho: float, adaptive: bool) -> list[tuple[nn.Parameter, Tensor]]:
    """Move parameters that have a gradient to the worst point nearby; return their origins, for :func:`descend`.

    The step is rho * s^2 g / ||s g|| with s = |w| (adaptive) or 1; the norm runs over all parameters together. Nothing
    waits for the device.
    """
    moved = [p for p in parameters if p.grad is not None]
    if not moved:
        return []
    weights: list[Tensor] = [p.detach() for p in moved]
    grads: list[Tensor] = [p.grad for p in moved if p.grad is not None]
    sizes = list(torch._foreach_abs(weights))
    scaled = [g * s for g, s in zip(grads, sizes, strict=True)] if adaptive else grads
    norm = torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(scaled))))
    radius = rho / (norm + 1e-12)
    origins = [w.clone() for w in weights]
    for weight, size, step in zip(weights, sizes, scaled, strict=True):
        weight.add_((size * step if adaptive else step) * radius)
    return list(zip(moved, origins, strict=True))


@torch.no_grad()
def descend(moved: Sequence[tuple[nn.Parameter, Tensor]]) -> None:
    """Restore the parameters, to the bit."""
    for parameter, origin in moved:
        parameter.copy_(origin)
