"""A ResNet with masks and without the channels that they close, against a slow network with masked maps."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_lightning.core import rng
from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.core.rng import Key
from cl_lightning.models.backbone import Backbone
from cl_lightning.models.build import build_backbone
from cl_lightning.models.convit import ConViT
from cl_lightning.models.embedding_network import ClassTokenBackbone
from cl_lightning.models.prunable_resnet import CHANNEL_MASKS, PrunableResNet
from cl_lightning.models.resnet import BasicBlock, CifarResNet, ResNet18

IMAGES = rng.normal(Key(5), torch.arange(4 * 3 * 64)).view(4, 3, 8, 8)
NETWORKS: dict[str, Callable[[], Backbone]] = {
    "padded": partial(CifarResNet, depth=14, width=4),
    "projection": partial(CifarResNet, depth=8, width=4, shortcut="projection"),
    "resnet18": partial(ResNet18, width=4),
    "large stem": partial(ResNet18, width=4, stem="large"),
}


def made(make: Callable[[], Backbone], s_max: float | None = 100.0) -> PrunableResNet:
    """Return a network whose statistics and scales are nobody's defaults."""
    with rng.torch_seeded(Key(1)):
        network = PrunableResNet(make, s_max=s_max)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.uniform_(module.bias, -0.5, 0.5)
                nn.init.uniform_(module.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
                nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return network


def slow(network: PrunableResNet, sharpness: float, images: Tensor) -> Tensor:
    """Multiply the *maps* that each convolution reads, one by one, in a copy of the dense network."""
    dense = copy.deepcopy(network.backbone)
    assert network.logits is not None
    start = 0
    for name, module in dense.named_modules():
        if isinstance(module, nn.Conv2d) and name != "conv":
            e = network.logits.detach()[start : start + module.in_channels]
            start += module.in_channels
            mask = torch.sigmoid(sharpness * e)[:, None, None]
            module.register_forward_pre_hook(lambda module, given, mask=mask: (given[0] * mask,))
    assert start == len(network.logits)
    return dense(images)[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", NETWORKS)
def test_each_convolution_but_the_first_reads_masked_maps(name: str) -> None:
    network = made(NETWORKS[name]).eval()
    torch.testing.assert_close(network(IMAGES)[0], slow(network, 100.0, IMAGES), atol=1e-5, rtol=1e-5)
    network.train()
    network.sharpness.fill_(3.0)
    reference = slow(network, 3.0, IMAGES)
    torch.testing.assert_close(network(IMAGES)[0], reference, atol=1e-4, rtol=1e-4)
    assert len(network(IMAGES)[1]) == len(network.backbone(IMAGES)[1]), "maps too"


def test_training_follows_the_buffer_and_evaluation_s_max() -> None:
    network = made(NETWORKS["padded"])
    assert network.sharpness.item() == pytest.approx(0.01)
    assert all((mask - 0.5).abs().max() < 0.02 for mask in network.masks().values())
    network.anneal(1, 3)
    assert network.sharpness.item() == pytest.approx((0.01 + 100) / 2)
    network.eval()
    before = network(IMAGES)[0]
    network.anneal(0, 3)
    assert torch.equal(network(IMAGES)[0], before)


def test_logits_begin_as_normal_numbers_and_stay_within_six() -> None:
    with rng.torch_seeded(Key(0)):
        network = PrunableResNet(partial(ResNet18, width=16), s_max=100.0)
    assert network.logits is not None
    assert network.logits.mean().abs() < 0.1
    assert network.logits.std().item() == pytest.approx(1.0, abs=0.1)
    network.logits.data.mul_(100)
    network.anneal(0, 2)
    assert network.logits.abs().max() == 6


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pruned_network_s_vectors_are_the_masked_one_s_as_s_grows(name: str) -> None:
    distances = []
    for s_max in (10.0, 100.0, 10_000.0):
        network = made(NETWORKS[name], s_max).eval()
        masked = network(IMAGES)[0]
        before = sum(p.numel() for p in network.backbone.parameters())
        network.prune()
        assert network.pruned
        assert sum(p.numel() for p in network.parameters()) < 0.6 * before
        distances.append((network(IMAGES)[0] - masked).abs().max().item() / masked.abs().max().item())
    assert distances[-1] < 1e-5
    assert distances[-1] < distances[0]


def test_what_is_left_is_counted_by_the_channels_that_are_open() -> None:
    network = made(NETWORKS["projection"])
    assert network.logits is not None
    open_of = {
        name: max(1, int((part >= 0).sum()))
        for name, part in zip(network.masked, network.logits.split(list(network.masked.values())), strict=True)
    }
    network.prune()
    expected = 9 * 3 * 4 + 2 * 4
    for stage, width in enumerate((4, 8, 16)):
        read, between = open_of[f"stages.{stage}.0.conv1"], open_of[f"stages.{stage}.0.conv2"]
        expected += 9 * read * between + 2 * between + 9 * between * width + 2 * width
        if stage:
            expected += open_of[f"stages.{stage}.0.shortcut.0"] * width + 2 * width
    assert sum(p.numel() for p in network.parameters()) == expected


def test_a_convolution_whose_channels_are_all_closed_keeps_one() -> None:
    network = made(NETWORKS["padded"])
    assert network.logits is not None
    network.logits.data.sub_(10)
    network.prune()
    kept = network.structure()["kept"]
    assert kept
    assert all(len(channels) == 1 for channels in kept.values())
    assert network.eval()(IMAGES)[0].isfinite().all()


def test_links_name_what_is_read_before_and_behind_each_convolution() -> None:
    network = made(NETWORKS["resnet18"])
    masks = network.masks()
    sums = {name: mask.sum().item() for name, mask in masks.items()}
    found = [(k, one.sum().item(), other.sum().item()) for k, one, other in network.links(area=True)]
    names = [f"stages.{stage}.{block}" for stage in range(4) for block in range(2)]
    readers = [*(sums[f"{name}.conv1"] for name in names), 32.0]
    expected = [(9, 3.0, readers[0])]
    for name, reader in zip(names, readers[1:], strict=True):
        expected.append((9, sums[f"{name}.conv1"], sums[f"{name}.conv2"]))
        expected.append((9, sums[f"{name}.conv2"], reader))
        if f"{name}.shortcut.0" in sums:
            expected.append((1, sums[f"{name}.shortcut.0"], reader))
    assert found == expected
    weights = sum(m.weight.numel() for m in network.backbone.modules() if isinstance(m, nn.Conv2d))
    assert sum(k * one.numel() * other.numel() for k, one, other in network.links(area=True)) == weights
    assert {k for k, _, _ in network.links(area=False)} == {1, 3}


def rebuilt(network: PrunableResNet) -> PrunableResNet:
    """Through a file that holds nothing but plain values and tensors."""
    buffer = io.BytesIO()
    torch.save({"structure": network.structure(), "weights": network.state_dict()}, buffer)
    buffer.seek(0)
    stored = torch.load(buffer, weights_only=True)
    again = build_backbone(stored["structure"])
    again.load_state_dict(stored["weights"], strict=True)
    assert isinstance(again, PrunableResNet)
    return again


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("prune", [False, True])
def test_rebuilt_from_its_structure_it_is_the_same(name: str, prune: bool) -> None:
    network = made(NETWORKS[name])
    network.anneal(1, 3)
    if prune:
        network.prune()
    again = rebuilt(network)
    assert again.structure() == network.structure()
    for training in (True, False):
        assert torch.equal(again.train(training)(IMAGES)[0], network.train(training)(IMAGES)[0])
    dense = {name: value.shape for name, value in again.successor().state_dict().items()}
    assert dense == {name: value.shape for name, value in made(NETWORKS[name]).state_dict().items()}


@pytest.mark.parametrize(
    "kept",
    [
        {"stages.0.0.conv1": []},
        {"stages.0.0.conv1": [0, 0]},
        {"stages.0.0.conv1": [1, 0]},
        {"stages.0.0.conv1": [-1]},
        {"stages.0.0.conv1": [4]},
        {"stages.0.0.conv1": (0, 1)},
        {"stages.9.0.conv1": [0]},
        {"conv": [0]},
    ],
)
def test_channels_that_are_not_there_are_refused(kept: Any) -> None:
    with pytest.raises(InvalidSettingError, match=r"^[^\n]+$"):
        PrunableResNet(NETWORKS["padded"], kept=kept)


def test_another_network_is_refused() -> None:
    encoder = ConViT(image_size=8, patch_size=4, channels=3, dim=16, num_heads=4, depth=2)
    with pytest.raises(InvalidSettingError, match="no residual blocks"):
        PrunableResNet(lambda: ClassTokenBackbone(encoder))


def test_parts_hold_every_parameter_once() -> None:
    network = made(NETWORKS["padded"])
    parts = network.parts()
    assert [p.ndim for p in parts[CHANNEL_MASKS]] == [1]
    assert sorted(id(p) for part in parts.values() for p in part) == sorted(map(id, network.parameters()))
    network.prune()
    assert network.parts()[CHANNEL_MASKS] == []
    assert network.open_share() is None


def test_the_dense_weights_know_no_masks() -> None:
    network = made(NETWORKS["padded"])
    dense = network.dense_weights()
    network.prune()
    following = network.successor()
    assert isinstance(following, PrunableResNet)
    following.load_dense(dense)
    assert all(torch.equal(value, dense[name]) for name, value in following.backbone.state_dict().items())
    assert following.sharpness.item() == pytest.approx(0.01)
    with pytest.raises(RuntimeError, match="size mismatch"):
        network.load_dense(dense)


# ---- by batch norm's scales ----------------------------------------------------------------------------------------


def test_the_smallest_scales_go_first() -> None:
    network = made(NETWORKS["padded"], None)
    blocks = {n: m for n, m in network.backbone.named_modules() if isinstance(m, BasicBlock)}
    ranked = sorted((abs(s), n, k) for n, m in blocks.items() for k, s in enumerate(m.norm1.weight.tolist()))
    left = whole = sum(p.numel() for p in network.parameters())
    expected = {n: set(range(len(m.norm1.weight))) for n, m in blocks.items()}
    for _, name, index in ranked:
        if left > whole / 2 and len(expected[name]) > 1:
            expected[name].remove(index)
            block = blocks[name]
            left -= 9 * block.conv1.in_channels + 2 + 9 * block.conv2.out_channels
    network.prune(0.5)
    assert sum(p.numel() for p in network.parameters()) == left <= whole / 2
    assert network.structure()["kept"] == {f"{name}.conv2": sorted(kept) for name, kept in expected.items()}


def test_channels_whose_scales_are_zero_cost_nothing_when_they_go() -> None:
    network = made(NETWORKS["resnet18"], None).eval()
    for module in network.modules():
        if isinstance(module, BasicBlock):  # half of the channels, as if training had closed them
            module.norm1.weight.data[::2] = 0
            module.norm1.bias.data[::2] = 0
    before = network(IMAGES)[0]
    whole = sum(p.numel() for p in network.parameters())
    network.prune(0.6)
    assert sum(p.numel() for p in network.parameters()) <= 0.6 * whole
    torch.testing.assert_close(network(IMAGES)[0], before)


def test_a_quarter_of_imagenet_s_resnet18_is_2_8_million_parameters() -> None:
    """The public number of Simple-DER: 28 million after ten tasks of ImageNet-1000."""
    network = PrunableResNet(partial(ResNet18, stem="large"))
    whole = sum(p.numel() for p in network.parameters())
    network.prune(0.25)
    left = sum(p.numel() for p in network.parameters())
    assert whole == 11_176_512
    assert round(left / 1e6, 1) == 2.8
    assert left <= whole / 4
