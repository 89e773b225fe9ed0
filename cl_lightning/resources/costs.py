"""The costs of a trained network and of the process that trains it, measured."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from cl_lightning.models.network import Network


def multiply_adds(network: Network, image_size: int, channels: int) -> int:
    """Return the multiply-adds of one image: from pixels to the scores of all classes seen.

    Counted are products of matrices, convolutions and attention, as torch's ``FlopCounterMode`` finds them in a pass
    (two operations for each multiply-add). Element-wise operations are not counted. Attention is computed by products
    of matrices here, so that the count is the same on every device. Modes, gradients and random numbers stay as they
    are.
    """
    from torch.utils.flop_counter import FlopCounterMode  # takes a second to import

    weight = next(network.parameters())
    image = torch.zeros(1, channels, image_size, image_size, dtype=weight.dtype, device=weight.device)
    with _evaluated(network), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network.logits(network(image))
    return int(counter.get_total_flops()) // 2


@contextmanager
def _evaluated(network: Network) -> Iterator[None]:
    """Put a network into evaluation mode for the block, without gradients: the counter follows modules by hooks on the
    gradients of their inputs, and fails on parameters among these.
    """
    modes = [(module, module.training) for module in network.modules()]
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    network.eval()
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter in trained:
            parameter.requires_grad_(True)


def peak_memory() -> int:
    """Return the largest resident set of this process since it was started, in bytes."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest


def peak_gpu_memory() -> int | None:
    """Return the most bytes of tensors on this process's GPU since :func:`forget_peaks`; None if it uses no GPU."""
    if not torch.cuda.is_initialized():
        return None
    return torch.cuda.max_memory_allocated() or None


def forget_peaks() -> None:
    """Begin to measure :func:`peak_gpu_memory` anew: another run may have used the GPU in this process."""
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
