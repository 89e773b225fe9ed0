"""The plain vision transformer: timm's own under timm's names; what masks and stochastic depth change of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from cl_lightning.core import rng
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.plain_vit import BlockMasks, PlainViT

SIZES: dict[str, Any] = {
    "image_size": 8, "channels": 1, "patch_size": 4, "dim": 16, "depth": 2, "num_heads": 4, "mlp_ratio": 2.0
}  # fmt: skip
IMAGES = rng.normal(Key(0), torch.arange(3)[:, None], torch.arange(64)).view(3, 1, 8, 8)


def timm_vit() -> VisionTransformer:
    with torch_seeded(Key(3)):
        return VisionTransformer(
            img_size=8, patch_size=4, in_chans=1, num_classes=0, embed_dim=16, depth=2, num_heads=4, mlp_ratio=2.0
        ).eval()


def test_it_is_timm_s_transformer_under_timm_s_names() -> None:
    theirs, ours = timm_vit(), PlainViT(**SIZES).eval()
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    ours.load_state_dict(theirs.state_dict(), strict=True)
    with torch.no_grad():
        expected = theirs(IMAGES)
        torch.testing.assert_close(ours(IMAGES), expected, atol=1e-5, rtol=1e-5)
        ones = [
            BlockMasks(torch.ones(3, 4), None, block.mlp.fc1.weight * 1.0, block.mlp.fc2.weight * 1.0)
            for block in ours.layers()
        ]
        torch.testing.assert_close(ours(IMAGES, ones), expected, atol=1e-5, rtol=1e-5)


def vit(**changed: Any) -> PlainViT:
    with torch_seeded(Key(3)):
        return PlainViT(**{**SIZES, **changed}).eval()


def test_stochastic_depth_multiplies_each_branch_of_each_image() -> None:
    """Without branches nothing is left but the class token at its place, behind the norm."""
    made = vit()
    with torch.no_grad():
        whole = made(IMAGES)
        assert torch.equal(made(IMAGES, (), torch.ones(4, 3)), whole)
        scales = torch.ones(4, 3)
        scales[:, 1] = 0
        found = made(IMAGES, (), scales)
        start = made.norm(made.cls_token[0, 0] + made.pos_embed[0, 0])
    torch.testing.assert_close(found[1], start)
    torch.testing.assert_close(found[[0, 2]], whole[[0, 2]])


def test_the_rates_rise_linearly_from_nothing_to_the_last_block_s() -> None:
    assert vit(depth=3, drop_path=0.4).drop_rates() == pytest.approx([0, 0, 0.2, 0.2, 0.4, 0.4])
    assert vit(depth=1, drop_path=0.4).drop_rates() == [0, 0]


def test_a_mask_in_evaluation_is_the_one_of_training() -> None:
    """In training a mask is a smoothed factor; in evaluation it is what attention may look at."""
    made, mask = vit(), torch.tensor([1.0, 0.0, 0.0, 1.0])
    seen = torch.cat([torch.ones(5, 1), mask.expand(5, 4)], dim=1).bool() | torch.eye(5, dtype=torch.bool)
    with torch.no_grad():
        trained = made(IMAGES, [BlockMasks(tokens=mask.expand(3, 4))] * 2)
        evaluated = made(IMAGES, [BlockMasks(seen=seen)] * 2)
        torch.testing.assert_close(evaluated, trained, atol=1e-5, rtol=1e-4)
        assert not torch.allclose(evaluated, made(IMAGES), atol=1e-3)


def test_masked_weights_are_in_the_place_of_the_mlp_s() -> None:
    made = vit()
    zero = [BlockMasks(fc1=block.mlp.fc1.weight * 0, fc2=block.mlp.fc2.weight) for block in made.layers()]
    with torch.no_grad():
        found = made(IMAGES, zero)
        for block in made.layers():
            block.mlp.fc1.weight.zero_()
        torch.testing.assert_close(found, made(IMAGES))


def test_structure_builds_the_same_again() -> None:
    structure = vit(drop_path=0.3).structure()
    assert structure.pop("kind") == "plain_vit"
    assert PlainViT(**structure).state_dict().keys() == vit().state_dict().keys()
