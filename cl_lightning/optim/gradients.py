"""Rules between averaging the gradients over processes and the optimiser's step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


@torch.no_grad()
def clamp_gradients(parameters: Sequence[nn.Parameter], bound: float, scale: Tensor | None = None) -> None:
    """Clamp each element of the gradients to [-bound, bound], in place (PODNet's public code, with 5).

    Args:
        parameters: those that are trained; one without a gradient is left out.
        bound: largest size of an element, > 0.
        scale: factor of the gradients in half precision, on their device. An element that overflowed stays infinite
            then: mixed precision looks for it, skips the step and lowers the scale.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if scale is None:
        torch._foreach_clamp_min_(gradients, -bound)
        torch._foreach_clamp_max_(gradients, bound)
        return
    for gradient in gradients:
        limit = bound * scale
        gradient.copy_(torch.where(gradient.isfinite(), gradient.clamp(-limit, limit), gradient))


@torch.no_grad()
def clip_gradients(parameters: Sequence[nn.Parameter], largest: float, scale: Tensor | None = None) -> None:
    """Shorten the gradient of all parameters together to a norm of at most ``largest``, in place, by the factor
    largest / (norm + 1e-6) of torch's ``clip_grad_norm_`` (HAT's public code, with 10,000). Nothing waits for the
    device.

    Args:
        parameters: those that are trained; one without a gradient is left out.
        largest: the norm, > 0.
        scale: factor of the gradients in half precision, on their device. A gradient that overflowed stays as it is:
            mixed precision skips the step and lowers the scale.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    norm = torch.linalg.vector_norm(torch.stack(list(torch._foreach_norm(gradients))))
    unit = torch.ones_like(norm) if scale is None else scale.to(norm)
    factor = (largest * unit / (norm + 1e-6 * unit)).clamp(max=1.0)
    torch._foreach_mul_(gradients, torch.where(norm.isfinite(), factor, torch.ones_like(factor)))
