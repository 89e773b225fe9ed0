"""Attention in half precision on a CPU, learnt by products of matrices, against double precision."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.models import gated_attention_op
from cl_lightning.models.attention import attend, learns_by_matrices


def _inputs(dtype: torch.dtype, learns: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    draws = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, 2, n, 8, generator=draws).to(torch.bfloat16).to(dtype) for n in (5, 7, 7))
    return q.requires_grad_(learns), k.requires_grad_(learns), v.requires_grad_(learns)


def _loop(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """One query after the other."""
    out = torch.empty(*q.shape[:-1], v.shape[-1], dtype=q.dtype)
    for image, head, row in torch.cartesian_prod(*map(torch.arange, q.shape[:3])):
        seen = torch.ones(k.shape[2], dtype=torch.bool) if mask is None else mask[image, 0, row]
        weights = torch.softmax(k[image, head][seen] @ q[image, head, row] * scale, dim=0)
        out[image, head, row] = weights @ v[image, head][seen]
    return out


def expect_gradients(ours: Sequence[Tensor], exact: Sequence[Tensor], out: Tensor, wanted: Tensor) -> None:
    """Of one weighted sum of both outcomes, within half precision's rounding."""
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(2)).to(torch.bfloat16)
    (out * weight).sum().backward()
    (wanted * weight.double()).sum().backward()
    for found, right in zip(ours, exact, strict=True):
        assert found.grad is not None
        assert right.grad is not None
        assert (found.grad.double() - right.grad).norm() < 0.02 * right.grad.norm()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("scale", [None, 1.0])
def test_half_precision_is_learnt_within_its_rounding(masked: bool, scale: float | None) -> None:
    seen = torch.rand(3, 1, 5, 7, generator=torch.Generator().manual_seed(1)) < 0.6
    mask = seen.index_fill(-1, torch.tensor([0]), True) if masked else None
    ours, exact = _inputs(torch.bfloat16), _inputs(torch.float64)
    assert learns_by_matrices(ours[0])
    out, wanted = attend(*ours, mask=mask, scale=scale), _loop(*exact, mask, scale or 8**-0.5)
    torch.testing.assert_close(out.double(), wanted, atol=0.02, rtol=0.02)
    expect_gradients(ours, exact, out, wanted)


def test_everything_else_goes_to_the_fused_kernel() -> None:
    for inputs in (_inputs(torch.float32), _inputs(torch.bfloat16, learns=False)):
        assert not learns_by_matrices(inputs[0])
        assert torch.equal(attend(*inputs), F.scaled_dot_product_attention(*inputs))
    inputs = _inputs(torch.bfloat16)
    with torch.no_grad():
        assert torch.equal(attend(*inputs), F.scaled_dot_product_attention(*inputs))


def test_gated_attention_is_learnt_within_its_rounding() -> None:
    draws = torch.Generator().manual_seed(0)
    qk, v = (torch.randn(4, 9, width, generator=draws).to(torch.bfloat16) for width in (48, 24))
    position = (3 * torch.randn(3, 9, 9, generator=draws)).softmax(-1)
    gate = torch.sigmoid(torch.randn(3, generator=draws))
    ours = [each.clone().requires_grad_() for each in (qk, v, position, gate)]
    exact = [each.double().requires_grad_() for each in (qk, v, position, gate)]
    out, wanted = gated_attention_op.eager(*ours), gated_attention_op.eager(*exact)
    torch.testing.assert_close(out.double(), wanted, atol=0.03, rtol=0.02)
    expect_gradients(ours, exact, out, wanted)
