"""Triton kernels for what training on a GPU spends its time on besides products of matrices.

The modules of this folder import Triton, so they are imported when a kernel runs, never before. Every kernel has the
same function written with torch's operators beside its caller, which serves where there is no GPU, no Triton or where
kernels are switched off.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable

import torch
from torch import Tensor

_WIDEST = 64
"""Of a head: what a program holds of it has to fit into the memory that it shares, on small GPUs too."""
_TRITON = importlib.util.find_spec("triton") is not None
_wanted = True
_log = logging.getLogger(__name__)


def set_enabled(wanted: bool) -> None:
    """Let kernels serve, or not (``trainer.kernels``), in this process."""
    global _wanted
    _wanted = wanted


def smoke_test(attempt: Callable[[], object] | None = None) -> None:
    """Run a kernel on the current GPU, where kernels are to serve: where it fails, for want of a C compiler say, they
    are switched off and one line says so.
    """
    if not (_wanted and _TRITON):
        return
    try:
        (attempt or _smallest)()
    except Exception as error:
        set_enabled(False)
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        _log.warning(
            "attention is computed without kernels of our own, %s (trainer.kernels=false saves the attempt)", reason
        )


def _smallest() -> None:
    from cl_lightning.models.kernels import gated_attention

    half = torch.zeros(1, 16, 32, dtype=torch.bfloat16, device="cuda")
    gated_attention.forward(
        half.repeat(1, 1, 2), half, torch.zeros(1, 16, 16, device="cuda"), torch.zeros(1, device="cuda")
    )
    torch.cuda.synchronize()


def supports(like: Tensor, width: int) -> bool:
    """Whether kernels can compute with a tensor such as this one, ``width`` to a head. Only in half precision: in
    float32 a head's attention does not fit into registers, and the operators serve.
    """
    return like.is_cuda and like.dtype in (torch.bfloat16, torch.float16) and width <= _WIDEST and _TRITON and _wanted
