"""Gated attention: the GPU's kernel, run here by Triton's interpreter, against the operators in double precision."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from cl_lightning.models import gated_attention_op as module
from cl_lightning.models import kernels

if importlib.util.find_spec("triton") is None:
    pytest.skip("there is no Triton for this platform", allow_module_level=True)


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _inputs(images: int, patches: int, heads: int, width: int) -> tuple[Tensor, ...]:
    draws = torch.Generator().manual_seed(0)
    qk = torch.randn(images, patches, 2 * heads * width, generator=draws)
    v = torch.randn(images, patches, heads * width, generator=draws)
    position = (3 * torch.randn(heads, patches, patches, generator=draws)).softmax(-1)
    return qk, v, position, torch.sigmoid(torch.randn(heads, generator=draws))


@pytest.mark.parametrize(("images", "patches", "heads", "width"), [(5, 64, 2, 32), (2, 9, 3, 8)])
def test_kernel_is_the_operators(images: int, patches: int, heads: int, width: int) -> None:
    inputs = _inputs(images, patches, heads, width)
    weight = torch.randn(inputs[1].shape, generator=torch.Generator().manual_seed(1))
    ours = [each.clone().to(DEVICE).requires_grad_() for each in inputs]
    exact = [each.double().requires_grad_() for each in inputs]
    out, wanted = module.fused(*ours), module.eager(*exact)
    (out.cpu() * weight).sum().backward()
    (wanted * weight).sum().backward()
    torch.testing.assert_close(out.double().cpu(), wanted, atol=1e-5, rtol=1e-5)
    for found, right in zip(ours, exact, strict=True):
        assert found.grad is not None
        assert right.grad is not None
        torch.testing.assert_close(found.grad.double().cpu(), right.grad, atol=2e-5, rtol=2e-5)


def test_the_cpu_computes_by_operators() -> None:
    inputs = _inputs(2, 9, 3, 8)
    assert torch.equal(module.gated_attention(*inputs), module.eager(*inputs))


def test_kernel_can_be_traced() -> None:
    """Shapes and types are known without running it: what compiling needs."""
    inputs = tuple(each.to(DEVICE) for each in _inputs(2, 9, 3, 8))
    torch.library.opcheck(module.fused, inputs, test_utils=("test_schema", "test_faketensor"))


def test_kernels_that_do_not_run_are_switched_off_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise RuntimeError("\nFailed to find C compiler.\nPlease specify via CC")

    half = SimpleNamespace(is_cuda=True, dtype=torch.bfloat16)
    try:
        kernels.smoke_test(lambda: None)
        assert kernels.supports(half, 32)  # type: ignore[arg-type]
        kernels.smoke_test(fails)
        assert not kernels.supports(half, 32)  # type: ignore[arg-type]
        kernels.smoke_test(lambda: pytest.fail("what is off is not tried"))
    finally:
        kernels.set_enabled(True)
    (record,) = caplog.records
    told = "attention is computed without kernels of our own, Failed to find C compiler. ("
    assert record.getMessage().startswith(told)


def test_kernels_serve_half_precision_on_a_gpu_and_can_be_switched_off() -> None:
    half, single = (SimpleNamespace(is_cuda=True, dtype=dtype) for dtype in (torch.bfloat16, torch.float32))
    try:
        for wanted in (False, True):
            kernels.set_enabled(wanted)
            assert kernels.supports(half, 64) is wanted  # type: ignore[arg-type]
            assert not kernels.supports(half, 65), "a head too wide for a program"  # type: ignore[arg-type]
            assert not kernels.supports(single, 32)  # type: ignore[arg-type]
            assert not kernels.supports(torch.zeros(1, dtype=torch.bfloat16), 32)
    finally:
        kernels.set_enabled(True)
