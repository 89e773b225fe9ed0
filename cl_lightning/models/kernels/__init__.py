"""Triton kernels for what training on a GPU spends its time on besides products of matrices.

The modules of this folder import Triton, so they are imported when a kernel runs, never before. Every kernel has the
same function written with torch's operators beside its caller, which serves where there is no GPU, no Triton or where
kernels are switched off.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

_WIDEST = 64
"""Of a head: what a program holds of it has to fit into the memory that it shares, on small GPUs too."""
_TRITON = importlib.util.find_spec("triton") is not None
_wanted = True


def switch(wanted: bool) -> None:
    """Let kernels serve, or not (``trainer.kernels``), in this process."""
    global _wanted
    _wanted = wanted


def serve(like: Tensor, width: int) -> bool:
    """Whether kernels can compute with a tensor such as this one, ``width`` to a head. Only in half precision: in
    float32 a head's attention does not fit into registers, and the operators serve.
    """
    return like.is_cuda and like.dtype in (torch.bfloat16, torch.float16) and width <= _WIDEST and _TRITON and _wanted
