"""Adapters of a vision transformer: their formula, what they change, what is trained, and their noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from cl_lightning.core import rng
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.adapters import AdaptedViTBackbone, Adapter
from cl_lightning.models.build import build_backbone
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.frozen_heads import MeanCosines
from cl_lightning.models.plain_vit import OPEN

SIZES: dict[str, Any] = {
    "kind": "plain_vit", "image_size": 8, "channels": 1, "patch_size": 4, "dim": 8, "depth": 2, "num_heads": 2,
    "mlp_ratio": 2.0, "drop_path": 0.5,
}  # fmt: skip
IMAGES = rng.normal(Key(3), torch.arange(5 * 64)).view(5, 1, 8, 8)
POSITIONS = torch.tensor([4, 0, 9, 2, 7])


def adapted(dropout: float = 0.25) -> AdaptedViTBackbone:
    with torch_seeded(Key(1)):
        made = AdaptedViTBackbone(vit=SIZES, width=3, scale=0.1, dropout=dropout)
    with torch.no_grad(), torch_seeded(Key(2)):
        for parameter in made.adapters.parameters():
            parameter.add_(torch.randn_like(parameter))
    return made


def slowly(made: AdaptedViTBackbone, images: torch.Tensor) -> torch.Tensor:
    """The formula, block by block, without noise."""
    vit = made.base.vit
    x = torch.cat([vit.cls_token.expand(len(images), -1, -1), vit.patch_embed(images)], dim=1) + vit.pos_embed
    for block, adapter in zip(vit.layers(), made.adapters, strict=True):
        weights: Any = adapter
        x = x + block.attn(block.norm1(x), OPEN)
        narrow = torch.clamp(x @ weights.down.weight.T + weights.down.bias, min=0)
        added = narrow @ weights.up.weight.T + weights.up.bias
        x = x + block.mlp(block.norm2(x)) + 0.1 * added
    return vit.norm(x)[:, 0]


def test_a_new_adapter_changes_nothing() -> None:
    with torch_seeded(Key(1)):
        made = AdaptedViTBackbone(vit=SIZES)
    assert torch.equal(made(IMAGES)[0], made.base(IMAGES)[0])
    for adapter in made.adapters:
        assert isinstance(adapter, Adapter)
        assert adapter.down.weight.abs().max() <= 8**-0.5, "uniform, with a = sqrt(5)"
        assert not any(bool(zero.any()) for zero in (adapter.up.weight, adapter.up.bias, adapter.down.bias))


def test_features_are_the_formula_s() -> None:
    made = adapted().double()
    torch.testing.assert_close(made(IMAGES.double())[0], slowly(made, IMAGES.double()), rtol=0, atol=1e-12)


def test_dropout_is_a_function_of_position_and_block() -> None:
    made = adapted()
    noise = made.noise(Key(5), POSITIONS)
    together = made(IMAGES, noise)[0]
    for row in range(len(IMAGES)):
        alone = made(IMAGES[row : row + 1], noise[:, row : row + 1])[0]
        torch.testing.assert_close(alone, together[row : row + 1])
    assert not torch.allclose(together, made(IMAGES)[0])
    assert torch.equal(noise[:, :1], made.noise(Key(5), POSITIONS[:1]))


def test_a_share_of_the_narrow_layer_is_left_out() -> None:
    first, second = (Adapter(4, 4, scale=1.0, dropout=0.25, index=index) for index in range(2))
    for adapter in (first, second):
        with torch.no_grad():  # what it adds is then its narrow layer
            adapter.down.weight.copy_(torch.eye(4))
            adapter.up.weight.copy_(torch.eye(4))
    streams, ones = rng.streams(Key(1), torch.arange(20)), torch.ones(20, 50, 4)
    left = first(ones, streams)
    assert sorted(left.unique().tolist()) == [0.0, pytest.approx(1 / 0.75)]
    assert float((left == 0).float().mean()) == pytest.approx(0.25, abs=0.02)
    assert not torch.equal(left, second(ones, streams)), "each block draws its own"
    assert torch.equal(first(ones), ones), "nothing in evaluation"


def test_only_adapters_and_the_classifier_are_trained() -> None:
    network = EmbeddingNetwork(adapted(), head=MeanCosines(8, linear=True, cosine=True))
    network.grow(3, Key(0))
    parts = network.parts()
    for name, parameters in parts.items():
        for parameter in parameters:
            parameter.requires_grad_(name in ("adapters", "classifier"))
    noise = network.noise(Key(1), POSITIONS, POSITIONS, frozenset({"backbone"}))
    F.cross_entropy(network.logits(network(IMAGES, noise)), torch.tensor([0, 1, 2, 0, 1])).backward()
    trained = {name for name, parameters in parts.items() if any(p.grad is not None for p in parameters)}
    assert trained == {"adapters", "classifier"}
    assert all(p.grad is not None and bool(p.grad.any()) for p in (*parts["adapters"], *parts["classifier"]))
    assert network.frozen_trunk() is None
    network.classifier.fill(torch.ones(3, 8))
    assert network.frozen_trunk() is network.backbone, "frozen once the classifier is dropped"


def test_the_first_classifier_is_scaled_cosines() -> None:
    head = MeanCosines(8, linear=True, cosine=True)
    head.grow(3)
    vectors = rng.normal(Key(0), torch.arange(16)).view(2, 8)
    first: Any = head.linear
    with torch.no_grad():
        first.scale.fill_(7.0)
        expected = 7 * torch.cosine_similarity(vectors[:, None], first.tasks[0][None], dim=-1)
        torch.testing.assert_close(head(vectors), expected)
    assert sorted(tuple(p.shape) for p in head.parts()["classifier"]) == [(1,), (3, 8)]


def test_it_is_built_again_from_its_description() -> None:
    made = adapted()
    again = build_backbone(made.structure())
    again.load_state_dict(made.state_dict(), strict=True)
    assert torch.equal(again(IMAGES)[0], made(IMAGES)[0])
    assert again.structure() == made.structure()
    assert again.drop_rates() == []
