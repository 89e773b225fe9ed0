"""A transformer read by one class token."""

from __future__ import annotations

import torch

from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.convit import ConViT
from cl_lightning.models.embedding_network import ClassTokenBackbone


def backbone() -> ClassTokenBackbone:
    with torch_seeded(Key(0)):
        return ClassTokenBackbone(ConViT(image_size=8, patch_size=4, dim=8, num_heads=2, depth=1))


def test_parameters_keep_their_names_and_their_order() -> None:
    """Checkpoints hold them by name, optimisers that were left within a phase by place."""
    names = [name for name, _ in backbone().named_parameters()]
    assert names[0] == "token"
    assert names[-2:] == ["norm.weight", "norm.bias"]
    assert [name for name in names if not name.startswith("encoder.")][1:3] == [
        "decoder.norm1.weight", "decoder.norm1.bias"
    ]  # fmt: skip


def test_the_class_token_is_the_only_one_that_asks() -> None:
    net = backbone()
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    before, _ = net(images)
    assert before.shape == (3, 8)
    assert net.decoder.count() == 0
    with torch.no_grad():
        net.token += 0.5
    assert not torch.allclose(net(images)[0], before)
