"""DAFormer's decoder: equal to the plain form, of the published sizes, and what grows in it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models import dual_attention
from cl_lightning.models.build import build_network
from cl_lightning.models.dual_attention import DualAttentionBlock
from cl_lightning.models.task_network import TaskNetwork

M = {"kind": "dual_attention", "expansion": True, "out_proj": False}
S = M | {"expansion": False}
CIFAR = {"image_size": 32, "patch_size": 4, "dim": 384, "num_heads": 12, "depth": 5}
IMAGENET = CIFAR | {"image_size": 224, "patch_size": 16}
SMALL = {"image_size": 16, "patch_size": 4, "dim": 24, "num_heads": 4, "depth": 1}


def network(classes: list[int], decoder: dict[str, Any], **sizes: int) -> TaskNetwork:
    structure = {
        "kind": "task_network", "encoder": {"kind": "convit", **(SMALL | sizes)}, "decoder": decoder, "diverge": True,
        "independent_heads": True, "classes": classes,
    }  # fmt: skip
    return build_network(structure, Key(0))  # type: ignore[return-value]


def images(count: int, size: int = 16) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def decoder(banks: int, *, patches: int = 16, out_proj: bool = False) -> DualAttentionBlock:
    """In double precision, with banks that are not zero."""
    with torch_seeded(Key(1)):
        block = DualAttentionBlock(24, 4, patches, 2.0, out_proj=out_proj)
        for _ in range(banks):
            block.append()
        for parameter in block.double().parameters():
            nn.init.normal_(parameter, std=0.3)
    return block


# ---- against the plain form ------------------------------------------------------------------------------------------


def one_bank_at_a_time(block: DualAttentionBlock, x_BND: Tensor, scales_TKB: Tensor | None) -> Tensor:
    """As it is written down: for each bank all patches pass the whole block, image by image and head by head."""
    heads, width = block.attn.num_heads, x_BND.shape[-1] // block.attn.num_heads
    embeddings = []
    for t, bank in enumerate(block.banks):
        of_task = []
        for b, x_ND in enumerate(x_BND):
            y_ND = block.norm1(x_ND)
            q, k, v = (linear(y_ND) for linear in (block.attn.q, block.attn.k, block.attn.v))
            parts = []
            for h in range(heads):
                own = slice(h * width, (h + 1) * width)
                scaled = q[:, own] / width**0.5
                to_patches = (scaled @ k[:, own].T).softmax(-1)
                to_keys = (scaled @ bank.weight.T + bank.bias).softmax(-1)  # type: ignore[union-attr,operator]
                parts.append(to_patches @ v[:, own] + to_keys @ v[:, own])
            o_ND = torch.cat(parts, dim=-1)
            if block.attn.proj is not None:
                o_ND = block.attn.proj(o_ND)
            first, second = (1.0, 1.0) if scales_TKB is None else scales_TKB[t, :, b]
            u_ND = x_ND + first * o_ND
            z_ND = u_ND + second * block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(u_ND))))
            of_task.append(z_ND.mean(0))
        embeddings.append(torch.stack(of_task))
    return torch.stack(embeddings, dim=1)


@pytest.mark.parametrize(
    ("banks", "stochastic_depth", "out_proj", "rows_together"),
    [(1, False, False, 1 << 15), (3, True, True, 1 << 15), (5, True, False, 100), (5, False, False, 1)],
    ids=["one bank", "all together, projected", "some at a time", "one at a time"],
)
def test_the_cheaper_form_equals_the_plain_one(
    banks: int, stochastic_depth: bool, out_proj: bool, rows_together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(dual_attention.ROWS_TOGETHER, "cpu", rows_together)
    block = decoder(banks, out_proj=out_proj)
    patches = torch.randn(3, 16, 24, dtype=torch.double, requires_grad=True)
    scales = torch.rand(banks, 2, 3, dtype=torch.double) if stochastic_depth else None
    ours, plain = block(patches, scales), one_bank_at_a_time(block, patches, scales)
    torch.testing.assert_close(ours, plain, atol=1e-12, rtol=1e-12)
    inputs = [patches, *block.parameters()]
    for a, b in zip(
        torch.autograd.grad(ours.sin().sum(), inputs), torch.autograd.grad(plain.sin().sum(), inputs), strict=True
    ):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


@torch.no_grad()
def test_ten_tasks_of_the_published_size_are_equal_to_a_hundred_thousandth() -> None:
    net = network([10] * 10, M, **CIFAR).eval()
    for bank in net.decoder.banks:  # type: ignore[union-attr]
        nn.init.normal_(bank.weight, std=0.5)
    patches, _ = net.encoder(images(2, 32))
    plain = one_bank_at_a_time(net.decoder, patches, None)  # type: ignore[arg-type]
    torch.testing.assert_close(net.decoder(patches), plain, atol=1e-5, rtol=0)


# ---- published sizes -------------------------------------------------------------------------------------------------


def count(*modules: nn.Module | nn.Parameter) -> int:
    return sum(m.numel() if isinstance(m, Tensor) else sum(p.numel() for p in m.parameters()) for m in modules)


DEAD = 384 * 384 + 384
"""The output projection that the public code builds and never calls."""


def test_parameter_counts_of_cifar() -> None:
    net = network([10], M, **CIFAR)
    encoder, block = net.encoder, net.decoder
    assert count(*encoder.blocks) == 8_866_860  # type: ignore[misc,arg-type]
    assert count(encoder.patch_embed) == 18_816  # type: ignore[arg-type]
    assert count(encoder.pos_embed) == 24_576  # type: ignore[arg-type]
    assert count(block.banks) == 2_112  # type: ignore[arg-type]
    assert count(net.classifier) == 4_618
    assert DEAD == 147_840
    assert count(block) - count(block.banks) == 1_773_312 - DEAD  # type: ignore[arg-type]
    assert count(net) == 10_690_294 - DEAD
    for task in range(1, 10):
        before = count(net) - (count(net.divergence) if net.divergence else 0)
        net.grow(10, Key(task))
        assert count(net.divergence) == 5_003  # type: ignore[arg-type]
        assert count(net) - count(net.divergence) == before + 2_112 + 4_618  # type: ignore[arg-type]
    assert count(net) == 10_755_867 - DEAD
    assert count(network([10], M | {"out_proj": True}, **CIFAR)) == 10_690_294


def test_the_shared_bank_grows_by_a_head_alone() -> None:
    net = network([10], S, **CIFAR)
    assert count(net) == 10_690_294 - DEAD
    for task in range(1, 10):
        net.grow(10, Key(task))
    assert count(net) == 10_755_867 - DEAD - 9 * 2_112


def test_imagenet_is_of_the_published_size_and_runs() -> None:
    """The published configuration cannot: it never says that there are 196 patches (D1, D2)."""
    net = network([10], M, **IMAGENET)
    assert count(net) == 11_021_818 - DEAD
    assert count(net.decoder.banks) == 6_468  # type: ignore[arg-type]
    net.grow(10, Key(1))
    with torch.no_grad():
        assert net.logits(net(images(1, 224))).shape == (1, 20)


# ---- what grows ------------------------------------------------------------------------------------------------------


def test_the_first_bank_is_random_and_the_next_are_zero() -> None:
    net = network([3, 2, 4], M)
    first, *later = net.decoder.banks  # type: ignore[misc]
    bound = 6**-0.5
    assert 0.9 * bound < first.weight.abs().max() <= bound
    assert 0.5 * bound < first.bias.abs().max() <= bound
    assert all(not bank.weight.any() and not bank.bias.any() for bank in later)
    assert len(later) == 2


def test_a_zero_bank_reads_the_mean_value_and_learns() -> None:
    block = decoder(1)
    block.append()
    block.double()
    patches = torch.randn(2, 16, 24, dtype=torch.double)
    torch.testing.assert_close(block.attention(block.prepare(patches))[:, 1], torch.full((2, 16), 1 / 16).double())
    block(patches)[:, 1].sin().sum().backward()
    newest = block.banks[1]
    assert newest.weight.grad.abs().max() > 1e-6
    assert newest.bias.grad.abs().max() > 1e-6


def test_growth_moves_no_old_score_and_replaces_the_divergence_head() -> None:
    for kind in (M, S):
        net = network([3, 2], kind)
        before, divergence = net.logits(net(images(4))), net.divergence
        net.grow(4, Key(5))
        after = net.logits(net(images(4)))
        torch.testing.assert_close(after[:, :5], before, atol=1e-6, rtol=1e-6)
        assert net.divergence is not divergence
        assert net.auxiliary(net(images(4))).shape == (4, 5)  # type: ignore[union-attr]


def test_parts_are_disjoint_and_cover_every_parameter() -> None:
    for kind, old in ((M, 2), (S, 0)):
        net = network([3, 2, 4], kind)
        parts = net.parts()
        assert list(parts) == ["encoder", "decoder", "old_banks", "new_bank", "old_heads", "new_head", "divergence"]
        assert sorted(id(p) for part in parts.values() for p in part) == sorted(id(p) for p in net.parameters())
        assert (len(parts["old_banks"]), len(parts["new_bank"])) == (2 * old, 2)


def test_every_kind_is_rebuilt_from_its_structure_and_goes_on_alike() -> None:
    for kind in (M, S, M | {"out_proj": True}):
        net = network([3, 2, 4], kind)
        again = build_network(net.structure(), Key(123))
        again.load_state_dict(net.state_dict(), strict=True)
        assert again.structure() == net.structure()
        for grown in (net, again):
            grown.grow(2, Key(7))
        assert all(torch.equal(value, again.state_dict()[name]) for name, value in net.state_dict().items())


def test_one_bank_serves_all_heads() -> None:
    net = network([3, 2, 4], S)
    features = net(images(2))
    assert features.embeddings.shape == (2, 1, 24)
    assert net.logits(features).shape == (2, 9)
    assert len(net.branches()) == 2 + 2


def test_a_batch_of_one_image_is_a_batch() -> None:
    """The published pooling drops every axis of length one (D6)."""
    net = network([3, 2], M).eval()
    both = net.logits(net(images(2)))
    torch.testing.assert_close(net.logits(net(images(2)[:1])), both[:1], atol=1e-6, rtol=1e-5)


def test_what_pictures_show() -> None:
    net = network([3, 2, 4], M)
    shares = net.attention(images(2))
    assert shares.shape == (2, 3, 4, 4)
    torch.testing.assert_close(shares.sum((2, 3)), torch.ones(2, 3))
    assert net.task_vectors().shape == (3, 16 * 7)
    assert not net.task_vectors().requires_grad
