"""A transformer read by one class token; classifiers of one embedding."""

from __future__ import annotations

import torch

from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.build import build_network
from cl_lightning.models.convit import ConViT
from cl_lightning.models.embedding_network import ClassTokenBackbone, EmbeddingNetwork
from cl_lightning.models.heads import LinearByTask
from cl_lightning.models.resnet import CifarResNet


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


def test_a_description_without_a_head_is_of_a_linear_one() -> None:
    """Checkpoints of earlier versions name none, and those with a linear head still do not."""
    structure = EmbeddingNetwork(CifarResNet(depth=8)).structure()
    assert "head" not in structure
    assert list(build_network({**structure, "classes": [2]}, Key(0)).parts()) == ["backbone", "classifier"]


def test_rows_by_task_are_those_of_a_linear_head_in_pieces() -> None:
    with torch_seeded(Key(0)):
        net = EmbeddingNetwork(CifarResNet(depth=8), head=LinearByTask(64))
    for task, size in enumerate((3, 2)):
        net.grow(size, Key(task))
    again = build_network(net.structure(), Key(9))
    again.load_state_dict(net.state_dict(), strict=True)
    e_BD = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    weight = torch.cat([task.weight for task in net.classifier.tasks])
    bias = torch.cat([task.bias for task in net.classifier.tasks])
    torch.testing.assert_close(net.classifier(e_BD), e_BD @ weight.T + bias)
    assert torch.equal(again.classifier(e_BD), net.classifier(e_BD))  # type: ignore[operator]
    assert [p.shape[0] for p in net.parts()["old_classes"]] == [3, 3]
    assert [p.shape[0] for p in net.parts()["new_classes"]] == [2, 2]
