"""Triton kernels for the costliest parts of training on a GPU besides products of matrices.

The modules of this package import Triton, so they are imported when a kernel runs, never before. Beside every kernel's
caller is the same function written with torch's operators, which is used without a GPU, without Triton or where kernels
are switched off.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable

import torch
from torch import Tensor

_WIDEST = 64
"""Largest width of a head: a program's share of it has to fit into shared memory, on small GPUs too."""
_TRITON = importlib.util.find_spec("triton") is not None
_enabled = True
_log = logging.getLogger(__name__)


def set_enabled(enabled: bool) -> None:
    """Switch kernels on or off in this process (``trainer.kernels``)."""
    global _enabled
    _enabled = enabled


def smoke_test(attempt: Callable[[], object] | None = None) -> None:
    """Run a kernel on the current GPU if kernels are enabled. If it fails, for lack of a C compiler say, switch them
    off and log one line.
    """
    if not (_enabled and _TRITON):
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
    """Return true if kernels can compute with a tensor such as this one, heads of ``width``. Only in half precision:
    in float32 a head's attention does not fit into registers, and the operators are used.
    """
    return like.is_cuda and like.dtype in (torch.bfloat16, torch.float16) and width <= _WIDEST and _TRITON and _enabled
