"""ConViT's encoder against loops over heads and patches, written from the paper."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.core import rng
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.convit import ConViT, GatedPositionalAttention, relative_positions

SIZES: dict[str, Any] = {
    "image_size": 6, "channels": 2, "patch_size": 2, "dim": 8, "num_heads": 4, "depth": 2, "mlp_ratio": 2.0,
}  # fmt: skip
IMAGES = rng.normal(Key(0), torch.arange(3 * 2 * 36)).view(3, 2, 6, 6)


def convit(**changed: Any) -> ConViT:
    with torch_seeded(Key(1)):
        return ConViT(**{**SIZES, **changed}).eval()


def test_offsets_between_patches() -> None:
    found = relative_positions(3)
    for one in range(9):
        for other in range(9):
            dx, dy = other % 3 - one % 3, other // 3 - one // 3
            assert found[one, other].tolist() == [dx, dy, dx**2 + dy**2]


def slow_attention(attention: GatedPositionalAttention, z_ND: Tensor) -> Tensor:
    patches, dim = z_ND.shape
    size = dim // attention.num_heads
    q_ND, k_ND = attention.qk(z_ND).chunk(2, dim=-1)
    v_ND, offsets = attention.v(z_ND), relative_positions(int(patches**0.5))
    heads = []
    for head in range(attention.num_heads):
        own = slice(head * size, (head + 1) * size)
        gate = attention.gating_param[head].sigmoid()
        rows = []
        for i in range(patches):
            content = torch.stack([q_ND[i, own] @ k_ND[j, own] / size**0.5 for j in range(patches)]).softmax(dim=0)
            position = torch.stack([attention.pos_proj(offsets[i, j])[head] for j in range(patches)]).softmax(dim=0)
            rows.append(((1 - gate) * content + gate * position) @ v_ND[:, own])
        heads.append(torch.stack(rows))
    return attention.proj(torch.cat(heads, dim=-1))


def test_attention_equals_a_loop_over_heads_and_patches() -> None:
    with torch_seeded(Key(2)):
        attention = GatedPositionalAttention(8, 4, 9)
        for parameter in attention.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    z = rng.normal(Key(3), torch.arange(2 * 9 * 8)).view(2, 9, 8)
    with torch.no_grad():
        expected = torch.stack([slow_attention(attention, each) for each in z])
        torch.testing.assert_close(attention(z), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("locality", [1.0, 0.5, 9.0])
def test_at_first_each_head_looks_to_one_side(locality: float) -> None:
    """By the squared distance from a point half a patch away in both directions, times the locality."""
    with torch_seeded(Key(2)):
        attention = GatedPositionalAttention(8, 4, 9, locality)
    with torch.no_grad():
        found = attention.position_attention()
    for head in range(4):
        x, y = head // 2 - 0.5, head % 2 - 0.5
        for patch in range(9):
            distances = [(j % 3 - patch % 3 - x) ** 2 + (j // 3 - patch // 3 - y) ** 2 for j in range(9)]
            expected = (-locality * torch.tensor(distances)).softmax(dim=0)
            torch.testing.assert_close(found[head, patch], expected, atol=1e-5, rtol=1e-4)


def test_values_are_passed_on_and_heads_start_by_position() -> None:
    with torch_seeded(Key(2)):
        attention = GatedPositionalAttention(8, 4, 9)
    assert torch.equal(attention.v.weight, torch.eye(8))
    assert attention.gating_param.tolist() == [1, 1, 1, 1]


def test_patches_are_those_of_a_convolution() -> None:
    made = convit()
    with torch.no_grad():
        expected = made.patch_embed(IMAGES).flatten(2).transpose(1, 2)
        torch.testing.assert_close(made.embed_patches(IMAGES), expected, atol=1e-6, rtol=1e-5)


def test_blocks_are_two_residual_branches_scaled_by_image() -> None:
    made, scales = convit(), rng.uniform(Key(4), torch.arange(4)[:, None], torch.arange(3))
    with torch.no_grad():
        tokens, maps = made(IMAGES, scales)
        x = made.embed_patches(IMAGES) + made.pos_embed
        for k, block in enumerate(made.blocks):
            x = x + scales[2 * k][:, None, None] * block.attn(block.norm1(x))
            hidden = F.gelu(block.mlp.fc1(block.norm2(x)))
            x = x + scales[2 * k + 1][:, None, None] * block.mlp.fc2(hidden)
            torch.testing.assert_close(maps[k], x, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(tokens, x, atol=1e-5, rtol=1e-5)
        assert torch.equal(made(IMAGES, torch.ones(4, 3))[0], made(IMAGES)[0])


def test_rates_rise_towards_the_decoder_s() -> None:
    assert convit(depth=4, drop_path=0.4).drop_rates() == pytest.approx([0, 0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3])
    assert convit(drop_path=0.4).structure()["drop_path"] == 0.4
