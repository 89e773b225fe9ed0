"""timm's networks as feature extractors: timm's own features, no draws in training, statistics of replicas."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import nn

from cl_lightning.core import rng
from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.build import build_backbone
from cl_lightning.models.replica_norm import running_statistics, set_replicas
from cl_lightning.models.timm_backbone import TimmBackbone, timm_shapes

FAMILIES = {
    "test_resnet": {"image_size": 8, "channels": 1},
    "test_efficientnet": {"image_size": 32},
    "test_convnext": {"image_size": 32},
    "test_vit": {"image_size": 32},
    "test_vit_relpos": {"image_size": 32},
    "mobilenetv3_small_050": {"image_size": 32},
    "levit_128s": {"image_size": 32},
}
"""Small names, one a family: residual, mobile, convolutional with layer norm, transformer ..."""


def made(name: str, seed: int = 1) -> TimmBackbone:
    with torch_seeded(Key(seed)):
        return TimmBackbone(name=name, **FAMILIES[name])  # type: ignore[arg-type]


def images(backbone: TimmBackbone, count: int = 4) -> torch.Tensor:
    sizes = backbone.structure()
    shape = (count, sizes["channels"], sizes["image_size"], sizes["image_size"])
    return rng.normal(Key(0), torch.arange(torch.Size(shape).numel())).view(shape)


@pytest.mark.parametrize("name", FAMILIES)
def test_features_are_timms_and_nothing_is_drawn_in_training(name: str) -> None:
    backbone = made(name)
    x, before = images(backbone), torch.get_rng_state()
    features, maps = backbone(x)
    features.square().sum().backward()
    assert torch.equal(torch.get_rng_state(), before)
    assert maps == ()
    assert [key for key, parameter in backbone.named_parameters() if parameter.grad is None] == []
    theirs = _reference(name, backbone)
    with torch.no_grad():
        expected = theirs.forward_head(theirs.forward_features(x), pre_logits=True)
        torch.testing.assert_close(backbone.eval()(x)[0], expected)
    assert features.shape == (4, backbone.dim)


def _reference(name: str, backbone: TimmBackbone) -> Any:
    sizes = backbone.structure()
    told = {"img_size": sizes["image_size"]} if name in ("test_vit", "test_vit_relpos", "levit_128s") else {}
    theirs = timm.create_model(name, num_classes=0, in_chans=sizes["channels"], **told)
    theirs.load_state_dict(backbone.net.state_dict(), strict=True)
    return theirs.eval()


def test_a_name_s_own_dropout_is_off() -> None:
    """Swin's default is stochastic depth of 0.1, and this family drops features before its classifier."""
    backbone = made("test_vit_relpos")
    rates = [getattr(module, "p", 0) for module in backbone.modules() if isinstance(module, nn.Dropout)]
    assert rates
    assert not any(rates)


def test_it_is_built_again_from_its_description_and_drawn_from_the_stream_alone() -> None:
    backbone = made("test_resnet")
    timm_shapes.cache_clear()
    with torch_seeded(Key(1)):
        again = build_backbone(backbone.structure())
    assert again.structure() == backbone.structure() == {
        "kind": "timm_backbone", "name": "test_resnet", "image_size": 8, "channels": 1, "patch_size": None,
        "frozen": False,
    }  # fmt: skip
    for key, value in backbone.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_sizes_are_known_without_the_network() -> None:
    backbone, shapes = made("test_vit"), timm_shapes("test_vit", 32, 3, None)
    assert shapes.dim == backbone.dim == 64
    assert shapes.weights == sum(parameter.numel() for parameter in backbone.parameters())
    assert timm_shapes("vit_gigantic_patch14_224", 224, 3, None).weights > 1.8e9


def test_transformers_take_smaller_patches() -> None:
    with torch_seeded(Key(1)):
        backbone = TimmBackbone(name="test_vit", image_size=8, channels=1, patch_size=2)
    assert backbone(torch.zeros(2, 1, 8, 8))[0].shape == (2, 64)


def test_batch_statistics_are_those_of_replicas() -> None:
    """Two replicas of two images are two passes of two, and the statistics move to the mean of both."""
    both = made("test_resnet")
    set_replicas(both, 2)
    x = images(both)
    found = both(x)[0]
    parts = [made("test_resnet"), made("test_resnet")]
    expected = torch.cat([backbone(part)[0] for backbone, part in zip(parts, x.chunk(2), strict=True)])
    torch.testing.assert_close(found, expected)
    for mine, first, second in zip(*(running_statistics(net) for net in (both, *parts)), strict=True):
        torch.testing.assert_close(mine, (first + second) / 2)
    found.square().sum().backward()
    expected.square().sum().backward()
    for (key, mine), *theirs in zip(both.named_parameters(), *(net.parameters() for net in parts), strict=True):
        total = sum(parameter.grad for parameter in theirs)  # type: ignore[misc]
        torch.testing.assert_close(mine.grad, total, msg=key, atol=1e-4, rtol=1e-3)


def test_a_frozen_network_stays_in_evaluation_mode() -> None:
    backbone = TimmBackbone(name="test_resnet", image_size=8, channels=1, frozen=True)
    before = copy.deepcopy(backbone.state_dict())
    parent = nn.Sequential(backbone).train()
    backbone(images(backbone))
    assert parent.training
    assert running_statistics(backbone) == []
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_nothing_computed_from_weights_outlives_them() -> None:
    """LeViT keeps its attention biases in evaluation mode."""
    backbone = made("levit_128s").eval()
    x = images(backbone)
    with torch.no_grad():
        before = backbone(x)[0]
        for parameter in backbone.parameters():
            parameter.mul_(1.1)
        moved = backbone(x)[0]
        again = made("levit_128s", seed=2).eval()
        again.load_state_dict(backbone.state_dict())
        torch.testing.assert_close(moved, again(x)[0])
    assert not torch.equal(before, moved)
    backbone(x)
    copy.deepcopy(backbone)  # a kept tensor with a gradient could not be copied


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("resnett10", {}, "name=resnett10 is not a timm model: pass name=resnet10t"),
        ("hf-hub:timm/resnet50.a1_in1k", {}, "is not a timm model"),
        ("tv_resnet50", {}, "name=tv_resnet50 is an old name of timm's: pass name=resnet50.tv_in1k"),
        ("convnext_atto", {}, "image_size=8 does not go with convnext_atto, which was made for 224 "),
        ("vit_tiny_patch16_224", {}, "or patch_size=N that divides it"),
        ("resnet10t", {"patch_size": 4}, "patch_size=4 is no option of resnet10t: pass patch_size=None"),
    ],
)
def test_what_a_network_cannot_be_is_told_in_one_line(name: str, options: dict[str, int], line: str) -> None:
    with pytest.raises(InvalidSettingError) as refused:
        TimmBackbone(name=name, image_size=8, channels=1, **options)  # type: ignore[arg-type]
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)
