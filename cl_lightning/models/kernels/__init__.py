"""Triton kernels for what training on a GPU spends its time on besides products of matrices.

The modules of this folder import Triton, so they are imported when a kernel runs, never before. Every kernel has the
same function written with torch's operators beside its caller, which serves where there is no GPU, no Triton or where
kernels are switched off.
"""

from __future__ import annotations

import importlib.util

from torch import Tensor

_TRITON = importlib.util.find_spec("triton") is not None
_wanted = True


def switch(wanted: bool) -> None:
    """Let kernels serve, or not (``trainer.kernels``), in this process."""
    global _wanted
    _wanted = wanted


def serve(like: Tensor) -> bool:
    """Whether kernels can compute with a tensor such as this one."""
    return like.is_cuda and _TRITON and _wanted
