"""Each kind of network names its settled parts: a checkpoint writes them once."""

from __future__ import annotations

import torch

from cl_lightning.core.rng import Key
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.extractor_network import ExtractorNetwork
from cl_lightning.models.frozen_heads import MeanCosines
from cl_lightning.models.masked_network import MaskedNetwork
from cl_lightning.models.plain_vit import PlainViT
from cl_lightning.models.resnet import CifarResNet
from cl_lightning.models.separate_network import SeparateNetwork


def resnet(*, frozen: bool = False) -> CifarResNet:
    return CifarResNet(depth=8, channels=1, frozen=frozen)


def vit() -> PlainViT:
    return PlainViT(image_size=8, channels=1, patch_size=4, dim=16, num_heads=2, depth=1)


def test_extractors_are_settled_once_there_is_a_newer_one() -> None:
    network = ExtractorNetwork(resnet)
    found = []
    for _ in range(3):
        network.grow(2, Key(0))
        found.append(network.settled())
    assert found == [[], ["extractors.0"], ["extractors.0", "extractors.1"]]


def test_an_extractor_that_is_never_trained_is_settled_from_the_start() -> None:
    network = ExtractorNetwork(lambda: resnet(frozen=True))
    network.grow(2, Key(0))
    assert network.settled() == ["extractors.0"]


def test_transformers_of_earlier_tasks_are_settled() -> None:
    network = SeparateNetwork(vit())
    assert network.settled() == []
    network.grow(2, Key(0))
    assert network.settled() == []
    network.grow(2, Key(0))
    assert network.settled() == ["transformers.0"]


def test_a_masked_transformer_is_settled_once_no_phase_trains_it() -> None:
    assert MaskedNetwork(vit(), token_mask_blocks=[0]).settled() == ["vit"]
    network = MaskedNetwork(vit(), token_mask_blocks=[0], plain_first=True)
    network.grow(2, Key(0))
    assert network.settled() == []
    network.pack()
    assert network.settled() == ["vit"]


def test_a_backbone_is_settled_if_it_is_frozen_or_read_as_it_stays() -> None:
    assert EmbeddingNetwork(resnet()).settled() == []
    assert EmbeddingNetwork(resnet(frozen=True)).settled() == ["backbone"]
    assert EmbeddingNetwork(resnet(), head=MeanCosines(64, linear=False)).settled() == ["backbone"]


def test_the_rest_is_the_state_without_it() -> None:
    network = EmbeddingNetwork(resnet(frozen=True))
    network.grow(2, Key(0))
    assert {name.split(".")[0] for name in network.unsettled_state()} == {"classifier"}
    network = EmbeddingNetwork(resnet())
    network.grow(2, Key(0))
    whole, own = network.state_dict(), network.unsettled_state()
    assert whole.keys() == own.keys()
    assert all(torch.equal(own[name], whole[name]) for name in whole)
