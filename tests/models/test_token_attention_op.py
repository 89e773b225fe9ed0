"""Token attention: the GPU's kernel, run here by Triton's interpreter, against the operators in double precision."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor

from cl_lightning.models import token_attention_op as module

if importlib.util.find_spec("triton") is None:
    pytest.skip("there is no Triton for this platform", allow_module_level=True)


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _inputs(images: int, tokens: int, patches: int, dim: int) -> list[Tensor]:
    draws = torch.Generator().manual_seed(0)
    return [torch.randn(tokens, dim, generator=draws) for _ in range(3)] + [
        torch.randn(images, patches, dim, generator=draws) for _ in range(2)
    ]


@pytest.mark.parametrize(
    ("images", "tokens", "patches", "heads", "width"), [(5, 10, 64, 2, 32), (9, 1, 9, 3, 8), (2, 17, 4, 1, 16)]
)
def test_kernel_is_the_operators(images: int, tokens: int, patches: int, heads: int, width: int) -> None:
    inputs = _inputs(images, tokens, patches, heads * width)
    ours = [each.clone().to(DEVICE).requires_grad_() for each in inputs]
    exact = [each.double().requires_grad_() for each in inputs]
    out, wanted = module.fused(*ours, heads), module.eager(*exact, heads)
    torch.testing.assert_close(out.double().cpu(), wanted, atol=1e-5, rtol=1e-5)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (out.cpu() * weight).sum().backward()
    (wanted * weight).sum().backward()
    for found, right in zip(ours, exact, strict=True):
        assert found.grad is not None
        assert right.grad is not None
        torch.testing.assert_close(found.grad.double().cpu(), right.grad, atol=2e-5, rtol=2e-5)


def test_the_cpu_computes_by_operators() -> None:
    inputs = _inputs(2, 3, 9, 24)
    assert torch.equal(module.token_attention(*inputs, 3), module.eager(*inputs, 3))


def test_kernel_can_be_traced() -> None:
    """Shapes and types are known without running it: what compiling needs."""
    inputs = tuple(each.to(DEVICE) for each in _inputs(2, 3, 9, 24))
    torch.library.opcheck(module.fused, (*inputs, 3), test_utils=("test_schema", "test_faketensor"))
