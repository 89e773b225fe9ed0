"""Rules between averaging the gradients over processes and the optimiser's step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cl_lightning.core import rng
from cl_lightning.core.types import Phase
from cl_lightning.optim.optimiser import Factors


def change_gradients(
    phase: Phase,
    parameters: Sequence[nn.Parameter],
    factors: Sequence[Factors],
    stream: Tensor | None,
    deviation: Tensor | None,
    scale: Tensor | None,
) -> None:
    """Clamp the gradients, shorten them, add noise, add what decays weights by their norm, where the phase asks for it.

    ``factors`` are those of each parameter; ``stream`` and ``deviation`` are those of :func:`add_noise`, None: no
    noise; ``scale`` is the factor of the gradients in half precision.
    """
    if phase.gradient_clamp is not None:
        clamp_gradients(parameters, phase.gradient_clamp, scale)
    if phase.gradient_norm is not None:
        clip_gradients(parameters, phase.gradient_norm, scale)
    if stream is not None and deviation is not None:
        add_noise(parameters, stream, deviation, scale)
    optimiser = phase.optimiser
    if optimiser.decay_by_norm:
        decays = [
            each.decay * optimiser.weight_decay if parameter.ndim > 1 or optimiser.decay_vectors else 0.0
            for parameter, each in zip(parameters, factors, strict=True)
        ]
        decay_by_norm(parameters, decays, scale)


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


@torch.no_grad()
def add_noise(
    parameters: Sequence[nn.Parameter], stream: Tensor, deviation: Tensor, scale: Tensor | None = None
) -> None:
    """Add normal noise to each element of the gradients, in place (End-to-End, Castro et al. 2018).

    Args:
        parameters: those that are trained, always in the same order; one without a gradient is left out.
        stream: (1,) int64 random stream of the step (``rng.streams``), on the gradients' device.
        deviation: standard deviation, (), there too: a step that is replayed reads both.
        scale: factor of the gradients in half precision.
    """
    first, size = 0, deviation if scale is None else deviation * scale
    for parameter in parameters:
        count = parameter.numel()
        if parameter.grad is not None:
            slots = torch.arange(first, first + count, device=parameter.device)
            noise = rng.normal_of(rng.bits_of(stream, slots)).view_as(parameter)
            parameter.grad.add_(noise.to(parameter.grad) * size)
        first += count


@torch.no_grad()
def decay_by_norm(parameters: Sequence[nn.Parameter], decays: Sequence[float], scale: Tensor | None = None) -> None:
    """Add ``decay * |w|^2 w`` to the gradient of each tensor w, in place, as End-to-End's public code decays weights.

    ``decays`` are those of each parameter, 0: none; ``scale`` is the factor of the gradients in half precision.
    """
    for parameter, decay in zip(parameters, decays, strict=True):
        if parameter.grad is not None and decay:
            factor = decay * parameter.square().sum()
            parameter.grad.add_(parameter * (factor if scale is None else factor * scale))
