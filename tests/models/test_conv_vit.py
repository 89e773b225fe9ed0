"""DKT's encoder: sizes of published networks, and its blocks against a loop written from the description."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cl_lightning.core import rng
from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.conv_mlp import ConvMLP
from cl_lightning.models.conv_vit import ConvViT, Stem

IMAGES = rng.normal(Key(1), torch.arange(3 * 2 * 8 * 8)).view(3, 2, 8, 8)


def encoder(**changed: Any) -> Any:
    sizes = {"image_size": 8, "channels": 2, "patch_size": 2, "dim": 8, "num_heads": 2, "depth": 2, "mlp_ratio": 2.0}
    with torch_seeded(Key(2)):
        made = ConvViT(**{**sizes, **changed})
        for parameter in made.parameters():  # large enough to be told apart
            nn.init.normal_(parameter, std=0.4)
    return made.eval()


@pytest.mark.parametrize(("patch", "size", "side"), [(4, 32, 8), (2, 8, 4), (8, 32, 4), (16, 224, 14), (16, 64, 4)])
def test_as_many_tokens_as_patches(patch: int, size: int, side: int) -> None:
    with torch.device("meta"):
        tokens = Stem(3, 8, patch)(torch.empty(2, 3, size, size))
    assert tokens.shape == (2, side**2, 8)


@pytest.mark.parametrize("patch", [1, 3, 18])
def test_patches_that_the_stem_cannot_make_are_refused(patch: int) -> None:
    with pytest.raises(InvalidSettingError, match="patch_size"):
        Stem(3, 8, patch)


def test_the_published_sizes() -> None:
    """5 blocks of 1,796,736, stem 50,496, general token 384."""
    with torch.device("meta"):
        made = ConvViT(image_size=32)
    assert sum(p.numel() for p in made.parameters()) == 5 * 1_796_736 + 50_496 + 384
    assert sum(p.numel() for p in made.patch_embed.parameters()) == 50_496


def test_the_general_token_is_one_more_key_of_the_last_block() -> None:
    made = encoder()
    with torch.no_grad():
        _, maps = made(IMAGES)
        x, block = maps[0], made.blocks[1]
        keys = block.norm1(torch.cat([x, made.general_token.expand(3, -1, -1)], dim=1))
        q, k, v = (
            linear(each).unflatten(-1, (2, 4)).transpose(1, 2)
            for linear, each in ((block.attn.q, block.norm1(x)), (block.attn.k, keys), (block.attn.v, keys))
        )
        read = ((q @ k.transpose(-1, -2)) / 2).softmax(dim=-1) @ v
        x = x + block.attn.proj(read.transpose(1, 2).flatten(2))
        torch.testing.assert_close(maps[1], x + block.mlp(block.norm2(x)), atol=1e-5, rtol=1e-5)
        made.general_token *= -1
        moved = made(IMAGES)[1]
    assert torch.equal(moved[0], maps[0])
    assert not torch.allclose(moved[1], maps[1], atol=1e-3)


def test_stochastic_depth_skips_both_branches() -> None:
    made = encoder()
    with torch.no_grad():
        tokens, _ = made(IMAGES, torch.zeros(4, 3))
        torch.testing.assert_close(tokens, made.patch_embed(IMAGES))
        assert torch.equal(made(IMAGES, torch.ones(4, 3))[0], made(IMAGES)[0])
    assert encoder(depth=4, drop_path=0.4).drop_rates() == pytest.approx([0, 0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3])


def test_parts_have_the_general_token_apart() -> None:
    made = encoder()
    parts = made.parts()
    assert [each is made.general_token for each in parts["general_token"]] == [True]
    assert len(parts["encoder"]) == len(list(made.parameters())) - 1
    without = encoder(general_token=False)
    assert list(without.parts()) == ["encoder"]
    assert without.structure()["general_token"] is False


def test_a_single_token_sees_the_centre_of_the_kernels_alone() -> None:
    with torch_seeded(Key(3)):
        mlp, token = ConvMLP(4, 8).eval(), torch.randn(2, 1, 4)
    out = mlp(token)
    out.sum().backward()
    gradient = mlp.dwconv.weight.grad
    assert gradient is not None
    assert gradient[..., 1, 1].abs().min() > 0
    assert gradient.abs().sum() == gradient[..., 1, 1].abs().sum()
    hidden = F.gelu(mlp.bn1(mlp.fc1(token.transpose(1, 2)[..., None])))
    centre = hidden * mlp.dwconv.weight[:, 0, 1, 1].view(1, -1, 1, 1) + mlp.dwconv.bias.view(1, -1, 1, 1)
    torch.testing.assert_close(out[:, 0], mlp.bn3(mlp.fc2(F.gelu(mlp.bn2(centre))))[..., 0, 0])
