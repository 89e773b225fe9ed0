from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.models.backbone import Backbone
from cl_lightning.models.embedding_network import ClassTokenBackbone
from cl_lightning.models.extractor_network import ExtractorNetwork
from cl_lightning.models.network import branch_scales
from cl_lightning.models.resnet import CifarResNet, ResNet18

IMAGES = rng.normal(Key(5), torch.arange(4 * 64)).view(4, 1, 8, 8)


def backbone() -> Backbone:
    return CifarResNet(depth=8, channels=1)


def grown(*classes: int, seed: int = 0) -> ExtractorNetwork:
    network = ExtractorNetwork(backbone)
    for num_new in classes:
        network.grow(num_new, Key(seed))
    return network


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    pairs = zip(first.state_dict().items(), second.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_features_are_those_of_each_extractor_and_scores_read_them_all() -> None:
    network = grown(2, 3, 2).eval()
    for k, extractor in enumerate(network.extractors):  # make them differ
        extractor.conv.weight.data.mul_(1 + k)  # type: ignore[union-attr, operator]
        extractor.norm.running_mean.add_(0.1 * k)  # type: ignore[union-attr, operator]
    features = network(IMAGES)
    assert features.embeddings.shape == (4, 3, 64)
    maps: tuple[Tensor, ...] = ()
    for k, extractor in enumerate(network.extractors):
        vectors, maps = extractor(IMAGES)
        assert torch.equal(features.embeddings[:, k], vectors)
    assert all(torch.equal(a, b) for a, b in zip(features.maps, maps, strict=True))
    assert network.classifier is not None
    assert network.auxiliary_classifier is not None
    scores = torch.zeros(4, 7)
    for image in range(4):
        for label in range(7):
            for t in range(3):
                scores[image, label] += features.embeddings[image, t] @ network.classifier.weight[label, 64 * t :][:64]
    torch.testing.assert_close(network.logits(features), scores)
    auxiliary = features.embeddings[:, 2] @ network.auxiliary_classifier.weight.T
    torch.testing.assert_close(network.auxiliary(features), auxiliary)
    assert auxiliary.shape == (4, 3)  # any old class, and the two new ones


def test_growth_copies_the_newest_extractor_and_keeps_the_old_block() -> None:
    network = grown(2, 3)
    network(IMAGES)  # moves batch-norm statistics
    for parameter in network.extractors[1].parameters():
        parameter.data.mul_(1.1)
    network.requires_grad_(False)
    assert network.classifier is not None
    old_block = network.classifier.weight.clone()
    old = [{k: v.clone() for k, v in extractor.state_dict().items()} for extractor in network.extractors]
    network.grow(2, Key(0))
    assert network.classifier.weight.shape == (7, 192)
    assert torch.equal(network.classifier.weight[:5, :128], old_block)
    assert (network.classifier.weight[:5, 128:] != 0).all()
    assert (network.classifier.weight[5:] != 0).all()
    for extractor, state in zip(network.extractors, [*old, old[-1]], strict=True):
        assert all(torch.equal(value, state[name]) for name, value in extractor.state_dict().items())
    parts = network.parts()
    assert not any(p.requires_grad for p in parts["old_extractors"])
    assert all(p.requires_grad for name in ("new_extractor", "classifier", "auxiliary") for p in parts[name])
    next(iter(network.extractors[2].parameters())).data.zero_()
    assert (next(iter(network.extractors[1].parameters())) != 0).any(), "the copy shares its weights"


def test_old_scores_move_only_by_the_new_features() -> None:
    network = grown(2).eval()
    before = network.logits(network(IMAGES))
    network.grow(3, Key(0))
    network.eval()
    features = network(IMAGES)
    assert network.classifier is not None
    moved = features.embeddings[:, 1] @ network.classifier.weight[:2, 64:].T
    torch.testing.assert_close(network.logits(features)[:, :2] - moved, before)


def test_parts_hold_every_parameter_once() -> None:
    for classes in ((2,), (2, 3, 2)):
        network = grown(*classes)
        listed = [id(p) for part in network.parts().values() for p in part]
        assert sorted(listed) == sorted(id(p) for p in network.parameters())
    assert len(network.parts()["old_extractors"]) == 2 * len(network.parts()["new_extractor"])
    first = grown(2)
    assert first.parts()["auxiliary"] == first.parts()["old_extractors"] == []
    assert first.auxiliary(first(IMAGES)) is None
    assert ExtractorNetwork(backbone).parts()["classifier"] == []


def test_weights_depend_on_the_key_alone() -> None:
    torch.manual_seed(1)
    first = grown(2, 2)
    torch.manual_seed(2)
    assert same(first, grown(2, 2))
    assert not same(first, grown(2, 2, seed=1))


def test_reset_draws_the_classifier_anew_and_nothing_else() -> None:
    network, untouched = grown(2, 2), grown(2, 2)
    network.reset_classifier(Key(3))
    assert network.classifier is not None
    assert untouched.classifier is not None
    assert (network.classifier.weight != untouched.classifier.weight).all()
    assert network.classifier.weight.abs().max() <= 128**-0.5
    assert network.classifier.weight.abs().mean().item() == pytest.approx(0.5 * 128**-0.5, rel=0.1)
    again = grown(2, 2)
    again.reset_classifier(Key(3))
    assert same(network, again)
    network.classifier.weight.data.copy_(untouched.classifier.weight)
    assert same(network, untouched)


def build(structure: dict[str, Any]) -> ExtractorNetwork:
    assert structure["kind"] == "extractor_network"
    backbones = [CifarResNet(**{k: v for k, v in b.items() if k != "kind"}) for b in structure["backbones"]]
    return ExtractorNetwork.from_parts(backbones, structure["classes"], backbone)


@pytest.mark.parametrize("classes", [(), (2,), (2, 3, 4)])
def test_rebuilt_from_its_structure_it_loads_strictly_and_grows_alike(classes: tuple[int, ...]) -> None:
    network = grown(*classes)
    if classes:
        network(IMAGES)
    buffer = io.BytesIO()
    torch.save({"structure": network.structure(), "weights": network.state_dict()}, buffer)
    buffer.seek(0)
    stored = torch.load(buffer, weights_only=True)
    restored = build(stored["structure"])
    restored.load_state_dict(stored["weights"], strict=True)
    assert same(network, restored)
    network.grow(2, Key(7))
    restored.grow(2, Key(7))
    assert same(network, restored)
    assert restored.structure() == network.structure()
    assert restored.structure()["classes"] == [*classes, 2]


def test_frozen_extractors_build_no_graph() -> None:
    network = grown(2, 2)
    for parameter in network.parts()["old_extractors"]:
        parameter.requires_grad_(False)
    seen: list[Tensor] = []
    network.extractors[0].register_forward_hook(lambda module, arguments, output: seen.append(output[0]))
    assert network(IMAGES).embeddings.requires_grad
    assert not seen[0].requires_grad


def test_stochastic_depth_reaches_the_right_extractor() -> None:
    class Scaled(Backbone):
        def __init__(self) -> None:
            super().__init__(dim=2)
            self.weight = torch.nn.Parameter(torch.ones(2))

        def forward(self, images: Tensor, scales: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
            assert scales is not None
            return scales.T * self.weight, ()

        def structure(self) -> dict[str, Any]:
            return {}

        def drop_rates(self) -> list[float]:
            return [0.0, 0.5]

    network = ExtractorNetwork(Scaled)
    network.grow(2, Key(0))
    network.grow(2, Key(0))
    assert [(b.part, b.rate) for b in network.branches()] == [
        ("old_extractors", 0.0),
        ("old_extractors", 0.5),
        ("new_extractor", 0.0),
        ("new_extractor", 0.5),
    ]
    scales = torch.arange(12.0).view(4, 3)
    assert torch.equal(network(torch.empty(3, 1, 1, 1), scales).embeddings, scales.view(2, 2, 3).permute(2, 0, 1))
    drawn = branch_scales(network.branches(), Key(0), torch.arange(64), frozenset({"old_extractors"}))
    assert drawn is not None
    assert (drawn[:3] == 1).all()
    assert set(drawn[3].tolist()) == {0.0, 2.0}


def test_transformers_can_be_extractors() -> None:
    from cl_lightning.models.convit import ConViT

    def transformer() -> Backbone:
        return ClassTokenBackbone(ConViT(image_size=8, channels=1, patch_size=4, dim=16, num_heads=4, depth=1))

    network = ExtractorNetwork(transformer)
    network.grow(2, Key(0))
    network.grow(1, Key(0))
    network.eval()
    scales = torch.ones(len(network.branches()), 4)
    assert len(network.branches()) == 2 * 4
    torch.testing.assert_close(network(IMAGES, scales).embeddings, network(IMAGES).embeddings)


@pytest.mark.slow
def test_parameters_of_the_published_runs() -> None:
    """Ten extractors and a classifier: 112.20 M.

    The table prints 112.27 M, 224.55 M and 561.39 M for 10, 20 and 50 tasks. These are the sizes with ImageNet's 7 x 7
    stem, which has 7680 weights more than the 3 x 3 stem that the CIFAR runs use.
    """
    published = {10: 112.27, 20: 224.55, 50: 561.39}
    with torch.device("meta"):
        for tasks, millions in published.items():
            network = ExtractorNetwork(ResNet18)
            for _ in range(tasks):
                network.grow(100 // tasks, Key(0))
            sizes = {name: sum(p.numel() for p in part) for name, part in network.parts().items()}
            assert sizes["auxiliary"] == 512 * (100 // tasks + 1)
            used = sum(sizes.values()) - sizes["auxiliary"]
            assert used == tasks * (11_168_832 + 512 * 100)
            assert (used + tasks * 3 * 64 * (7 * 7 - 3 * 3)) / 1e6 == pytest.approx(millions, abs=0.01)
