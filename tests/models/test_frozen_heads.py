"""Classifiers of frozen features: rows that are given, and a linear classifier that makes way for them."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cl_lightning.core.rng import Key
from cl_lightning.models.build import build_network
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.frozen_heads import FrozenFeaturesHead, MeanCosines, ProjectedRidge
from cl_lightning.models.resnet import CifarResNet

FEATURES = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))


def grown(head: FrozenFeaturesHead, *sizes: int) -> FrozenFeaturesHead:
    for size in sizes:
        head.grow(size)
    return head


def test_cosines_are_of_means_as_they_are() -> None:
    head = grown(MeanCosines(5), 2, 1)
    head.fill(7 * ROWS)
    expected = torch.stack([F.cosine_similarity(FEATURES, row, dim=1) for row in ROWS], dim=1)
    torch.testing.assert_close(head(FEATURES), expected)


def test_a_feature_or_a_mean_of_zeros_is_like_nothing() -> None:
    head = grown(MeanCosines(5), 3)
    assert torch.equal(head(FEATURES), torch.zeros(6, 3))
    head.fill(ROWS)
    assert torch.equal(head(torch.zeros(1, 5)), torch.zeros(1, 3))


def test_ridge_reads_what_is_above_zero_of_a_projection() -> None:
    head = ProjectedRidge(5, 40, seed=3)
    grown(head, 3)
    rows = torch.randn(3, 40, generator=torch.Generator().manual_seed(2))
    head.fill(rows)
    assert head.projection is not None
    torch.testing.assert_close(head(FEATURES), (FEATURES @ head.projection).relu() @ rows.T)
    assert head.project(FEATURES.double()).dtype == torch.float64


def test_without_a_projection_features_are_read_as_they_are() -> None:
    head = grown(ProjectedRidge(5, 0, seed=3), 3)
    head.fill(ROWS)
    torch.testing.assert_close(head(-FEATURES), -FEATURES @ ROWS.T)
    assert list(head.state_dict()) == ["rows"]


def test_a_projection_is_standard_normal_and_drawn_from_its_seed() -> None:
    head, same, other = (ProjectedRidge(50, 400, seed=seed).projection for seed in (1, 1, 2))
    assert head is not None
    assert same is not None
    assert other is not None
    assert torch.equal(head, same)
    assert not torch.equal(head, other)
    assert head.mean().abs() < 0.02
    assert head.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("head", [MeanCosines(5, linear=True), ProjectedRidge(5, 7, seed=0, linear=True)])
def test_the_linear_classifier_scores_until_the_rows_are_known(head: FrozenFeaturesHead) -> None:
    assert head.structure()["linear"] is True
    grown(head, 3)
    assert head.linear is not None
    assert torch.equal(head(FEATURES), head.linear(FEATURES))
    assert [len(part) for part in head.parts().values()] == [2, 1]
    assert not head.rows.requires_grad
    head.fill(torch.ones_like(head.rows))
    assert head.structure()["linear"] is False
    assert torch.equal(head(FEATURES), head.scores(FEATURES))
    assert [len(part) for part in head.parts().values()] == [0, 1]
    grown(head, 2)
    assert head.linear is None, "of the first task alone"
    assert torch.equal(head(FEATURES)[:, 3:], torch.zeros(6, 2))


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("kind", ["mean_cosines", "projected_ridge"])
def test_a_network_is_built_again_from_its_description(kind: str, linear: bool) -> None:
    head: FrozenFeaturesHead = (
        MeanCosines(64, linear=linear) if kind == "mean_cosines" else ProjectedRidge(64, 9, seed=5, linear=linear)
    )
    network = EmbeddingNetwork(CifarResNet(depth=8, channels=1), head=head).eval()
    network.grow(2, Key(0))
    head.rows.data.normal_()
    assert network.structure()["head"] == kind
    again = build_network(network.structure(), Key(7)).eval()
    again.load_state_dict(network.state_dict(), strict=True)
    images = torch.randn(3, 1, 8, 8)
    assert torch.equal(again.logits(again(images)), network.logits(network(images))), "no file holds the projection"
    assert set(network.state_dict()) == set(again.state_dict())
    assert not any("projection" in name for name in network.state_dict())
