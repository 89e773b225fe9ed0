"""timm's transformers as encoders: timm's own numbers, without class token and final norm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cl_lightning.core import rng
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.timm_vit import TimmViT, open_plain_vit

NAME = "vit_tiny_patch16_224"
IMAGES = rng.normal(Key(0), torch.arange(2 * 64)).view(2, 1, 8, 8)


@pytest.fixture(scope="module")
def encoder() -> TimmViT:
    with torch_seeded(Key(1)):
        return TimmViT(name=NAME, image_size=8, channels=1, patch_size=4, drop_path=0.6).eval()


def test_sizes_are_those_of_the_name(encoder: TimmViT) -> None:
    assert (encoder.dim, encoder.num_heads, encoder.num_patches, encoder.mlp_ratio) == (192, 3, 4, 4.0)
    assert encoder.structure() == {
        "kind": "timm_vit", "name": NAME, "image_size": 8, "channels": 1, "patch_size": 4, "drop_path": 0.6,
    }  # fmt: skip
    assert isinstance(encoder.vit.norm, nn.Identity)
    assert not [name for name, _ in encoder.named_parameters() if "cls_token" in name or "head" in name]


def test_tokens_are_timm_s_own(encoder: TimmViT) -> None:
    with torch.no_grad():
        tokens, maps = encoder(IMAGES)
        torch.testing.assert_close(tokens, encoder.vit.forward_features(IMAGES), atol=1e-5, rtol=1e-5)
    assert tokens.shape == (2, 4, 192)
    assert len(maps) == 12
    assert maps[-1] is tokens


def test_branches_of_an_image_are_left_out_by_their_scales(encoder: TimmViT) -> None:
    scales = torch.ones(24, 2)
    scales[:, 1] = 0
    with torch.no_grad():
        found, whole = encoder(IMAGES, scales)[0], encoder(IMAGES)[0]
        start = encoder.vit._pos_embed(encoder.vit.patch_embed(IMAGES))
    torch.testing.assert_close(found[0], whole[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], start[1])


def test_rates_rise_towards_the_decoder_s(encoder: TimmViT) -> None:
    assert encoder.drop_rates() == pytest.approx([0.05 * k for k in range(12) for _ in range(2)])


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("vit_tinny_patch16_224", "name=vit_tinny_patch16_224 is not a timm model: pass name=vit_"),
        ("resnet18", r"name=resnet18 \(from timm.models.resnet\) is not a plain vision transformer"),
        ("deit_tiny_distilled_patch16_224", "is not a plain vision transformer"),
    ],
)
def test_other_names_are_refused(name: str, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        open_plain_vit(name, 224, 3, None, pretrained=False)
