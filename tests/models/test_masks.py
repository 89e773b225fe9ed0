"""Binary masks against slow loops: attention under them, how they are drawn, and how they are kept."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.models import masks


def normal(seed: int, *shape: int) -> Tensor:
    return rng.normal(Key(seed), torch.arange(math.prod(shape))).view(shape)


def test_attention_is_masked_by_key_but_for_itself_and_smoothed() -> None:
    scores, mask, n = normal(1, 5, 5) * 3, torch.tensor([1.0, 0.0, 1.0, 0.0]), 5
    found = masks.masked_softmax(scores, masks.open_with_self(mask[None])[0])
    for i in range(n):
        top = max(scores[i].tolist())
        a = []
        for j in range(n):
            seen = 1.0 if j == 0 or i == j else mask[j - 1].item()
            a.append(math.exp(scores[i, j].item() - top) * seen)
        expected = [(each + 1e-6 / n) / (sum(a) + 1e-6) for each in a]
        assert found[i].tolist() == pytest.approx(expected, rel=1e-5)


def test_a_dropped_patch_is_seen_by_itself_alone_and_the_class_token_by_all() -> None:
    share = masks.masked_softmax(normal(2, 5, 5), masks.open_with_self(torch.zeros(1, 4))[0])
    others = ~torch.eye(5, dtype=torch.bool)
    assert share[:, 1:][others[:, 1:]].max() < 1e-5
    assert (share[:, 0] > 0.01).all()
    torch.testing.assert_close(share.sum(dim=-1), torch.ones(5))


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_one_logit_is_the_gumbel_softmax_of_two(temperature: float) -> None:
    keep = torch.tensor([1.0, -0.5, 4.0, 0.2], requires_grad=True)
    drop = torch.tensor([0.5, 0.3, -4.0, 0.1], requires_grad=True)
    pair = -(-torch.log(rng.uniform(Key(5), torch.arange(8)).view(2, 4).double())).log().float()
    noisy = (torch.stack([keep, drop]) + pair) / temperature
    soft = noisy.softmax(dim=0)[0]
    soft.sum().backward()
    logits = (keep - drop).detach().requires_grad_()
    mask = masks.sample(logits, (pair[0] - pair[1]).sigmoid(), temperature)
    mask.sum().backward()
    assert mask.tolist() == (noisy[0] > noisy[1]).float().tolist()
    torch.testing.assert_close(logits.grad, keep.grad, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(logits.grad, -drop.grad, atol=1e-6, rtol=1e-4)  # type: ignore[operator]


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_one_pass_a_layer_is_the_plain_formula(temperature: float) -> None:
    weight, stream, gradient = normal(1, 3, 5), torch.tensor(1234567), normal(2, 3, 5)
    found = []
    for fused in (True, False):
        logits = normal(3, 15).requires_grad_()
        if fused:
            masked = masks.masked_weight(weight, logits, stream, 7, temperature)
        else:
            u = masks.many_uniforms(stream, 7, 15)
            masked = weight * masks.sample(logits, u, temperature).view(3, 5)
        (masked * gradient).sum().backward()
        found.append((masked.detach(), logits.grad))
    torch.testing.assert_close(found[0], found[1], atol=1e-7, rtol=1e-5)
    assert (found[0][0] == 0).any()


def test_before_anything_is_learnt_almost_all_is_kept() -> None:
    u = masks.many_uniforms(torch.tensor(99), 0, 1_000_001)
    assert u.min() > 0
    assert u.max() < 1
    kept = masks.sample(torch.tensor(8.0), u, 1.0)
    assert kept.mean().item() == pytest.approx(1 / (1 + math.exp(-8)), abs=1e-4)
    assert 1 / (1 + math.exp(-8)) == pytest.approx(0.99966, abs=1e-5)
    assert u.mean().item() == pytest.approx(0.5, abs=2e-3)


def test_ties_drop() -> None:
    assert masks.hard_mask(torch.tensor([0.0, 1e-9, -1e-9])).tolist() == [False, True, False]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 588])
def test_bits_come_back(count: int) -> None:
    mask = normal(1, count) > 0
    packed = masks.pack(mask)
    assert packed.dtype == torch.uint8
    assert len(packed) == -(-count // 8)
    expected = [sum(int(bit) << k for k, bit in enumerate(mask[i : i + 8])) for i in range(0, count, 8)]
    assert packed.tolist() == expected
    assert torch.equal(masks.unpack(packed, count), mask)


def test_token_masks_are_drawn_image_by_image_and_layer_by_layer() -> None:
    logits, streams = normal(4, 2, 3), torch.tensor([11, 22, 33, 44])
    found = masks.token_masks(logits, streams, 1.0)
    assert found.shape == (2, 4, 3)
    for layer in range(2):
        for image in range(4):
            slots = torch.arange(3) + 3 * layer
            own = masks.sample(logits[layer], masks.uniforms(streams[image], slots), 1.0)
            assert torch.equal(found[layer, image], own)


def test_uniforms_are_of_their_slot_and_never_0_or_1() -> None:
    stream = torch.tensor(5)
    whole = masks.many_uniforms(stream, 0, 10)
    assert len(whole) == 10
    assert len(whole.unique()) == 10
    first = masks.uniforms(stream, torch.arange(5))
    assert torch.equal(whole[:5], first), "the upper bits of five slots, then their lower ones"
    bits = (first.double() * (1 << 23) - 0.5).tolist()
    assert all(bit == int(bit) for bit in bits)
    later = masks.many_uniforms(stream, 2, 4)
    assert torch.equal(later[:2], first[2:4])
