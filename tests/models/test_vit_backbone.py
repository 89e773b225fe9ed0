"""A plain transformer as a backbone: its class token, and its noise."""

from __future__ import annotations

import torch

from cl_lightning.models.build import build_backbone
from cl_lightning.models.vit_backbone import PlainViTBackbone

SIZES = {"image_size": 8, "channels": 1, "patch_size": 4, "dim": 16, "depth": 2, "num_heads": 2, "drop_path": 0.5}


def test_its_features_are_the_class_token() -> None:
    backbone = PlainViTBackbone(**SIZES).eval()
    images = torch.randn(3, 1, 8, 8)
    features, maps = backbone(images)
    assert torch.equal(features, backbone.vit(images))
    assert (features.shape, maps) == ((3, backbone.dim), ())


def test_branches_are_multiplied_by_their_noise() -> None:
    backbone, images = PlainViTBackbone(**SIZES), torch.randn(3, 1, 8, 8)
    assert backbone.drop_rates() == [0.0, 0.0, 0.5, 0.5]
    scales = torch.ones(4, 3)
    assert torch.allclose(backbone(images, scales)[0], backbone(images)[0])
    scales[3, 1] = 0
    moved = (backbone(images, scales)[0] - backbone(images)[0]).abs().amax(dim=1) > 1e-4
    assert moved.tolist() == [False, True, False]


def test_it_is_built_again_from_its_description() -> None:
    backbone = PlainViTBackbone(**SIZES)
    again = build_backbone(backbone.structure())
    assert isinstance(again, PlainViTBackbone)
    assert again.structure() == backbone.structure()
