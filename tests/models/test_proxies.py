"""Proxies: similarities against a loop, where new ones begin."""

from __future__ import annotations

import math

import pytest
import torch

from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.build import build_network
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.proxies import ProxiesByTask, cluster_centres, first_proxies
from cl_lightning.models.resnet import CifarResNet


def test_similarities_are_weighed_by_their_own_softmax() -> None:
    with torch_seeded(Key(0)):
        head = ProxiesByTask(5, 3)
        head.grow(2)
        head.grow(1)
        e_BD = torch.randn(4, 5)
    proxies = torch.cat(list(head.tasks)).tolist()
    found = head.similarities(e_BD)
    for row, embedding in zip(found.tolist(), e_BD.tolist(), strict=True):
        unit = [x / math.hypot(*embedding) for x in embedding]
        for label in range(3):
            near = [
                -(math.dist(unit, [x / math.hypot(*p) for x in p]) ** 2) for p in proxies[3 * label : 3 * label + 3]
            ]
            weights = [math.exp(each) for each in near]
            expected = sum(w * each for w, each in zip(weights, near, strict=True)) / sum(weights)
            assert row[label] == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(head(e_BD), head.scale * found)


def test_it_is_built_again_from_its_description() -> None:
    with torch_seeded(Key(0)):
        net = EmbeddingNetwork(CifarResNet(depth=14, final_stage=True, stream_relu=False), head=ProxiesByTask(64, 4))
    for task, size in enumerate((2, 1)):
        net.grow(size, Key(task))
    again = build_network(net.structure(), Key(9))
    again.load_state_dict(net.state_dict(), strict=True)
    assert [len(rows) for rows in again.parts()["old_classes"]] == [8]
    assert again.structure() == net.structure()


def test_centres_are_those_of_the_clusters() -> None:
    corners = torch.eye(4)
    features = torch.cat(
        [corners[k] + 0.01 * torch.randn(6, 4, generator=torch.Generator().manual_seed(k)) for k in range(4)]
    )
    centres = cluster_centres(3 * features, 4, seed=1)
    unit = torch.nn.functional.normalize(features.double(), dim=-1)
    expected = torch.stack([unit[6 * k : 6 * k + 6].mean(dim=0) for k in range(4)])
    order = torch.cdist(expected, centres).argmin(dim=1)
    torch.testing.assert_close(centres[order], expected)
    assert torch.equal(cluster_centres(3 * features, 4, seed=1), centres)


def test_fewer_images_than_proxies_share_them() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    centres = cluster_centres(features, 5, seed=0)
    assert centres.shape == (5, 2)
    assert len(torch.unique(centres, dim=0)) == 2


def test_first_proxies_have_the_length_of_old_ones() -> None:
    old = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    torch.testing.assert_close(first_proxies(torch.tensor([[0.5, 0.0]]), old), torch.tensor([[1.0, 0.0]]))
