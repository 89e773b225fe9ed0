"""A transformer and a head for each task: where they start, what they answer, and what a training step runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.models.build import build_network
from cl_lightning.models.masked_network import MaskedNetwork
from cl_lightning.models.plain_vit import PlainViT
from cl_lightning.models.separate_network import SeparateNetwork

SIZES: dict[str, Any] = {
    "image_size": 8, "channels": 1, "patch_size": 4, "dim": 16, "depth": 2, "num_heads": 4, "mlp_ratio": 2.0,
    "drop_path": 0.5,
}  # fmt: skip
VIT = {"kind": "plain_vit", **SIZES}
IMAGES = rng.normal(Key(0), torch.arange(6)[:, None], torch.arange(64)).view(6, 1, 8, 8)


def network(*classes: int) -> SeparateNetwork:
    made = build_network({"kind": "separate_network", "vit": VIT, "classes": list(classes)}, Key(1))
    assert isinstance(made, SeparateNetwork)
    return made.eval()


@torch.no_grad()
def shake(module: nn.Module, seed: int) -> None:
    for place, parameter in enumerate(module.parameters()):
        drawn = rng.normal(Key(seed).fold(place), torch.arange(parameter.numel()))
        parameter.add_(0.1 * drawn.view_as(parameter))


def shaken(*classes: int) -> SeparateNetwork:
    """All transformers and heads differ."""
    net = network(*classes)
    for seed, part in enumerate([*net.transformers, *net.heads]):
        shake(part, seed)
    return net


def same(a: nn.Module, b: nn.Module) -> bool:
    one, two = a.state_dict(), b.state_dict()
    return list(one) == list(two) and all(torch.equal(one[key], two[key]) for key in one)


def test_a_new_transformer_is_a_copy_of_the_first_as_it_is_by_then() -> None:
    net = network(3)
    untrained = network(3).transformers[0]
    shake(net.transformers[0], 5)
    net.grow(2, Key(2))
    assert same(net.transformers[1], net.transformers[0])
    assert not same(net.transformers[1], untrained)
    shake(net.transformer, 6)
    net.grow(4, Key(3))
    assert same(net.transformers[2], net.transformers[0]), "of the first task's, not of the newest"
    assert not same(net.transformers[1], net.transformers[0])
    shared = {p.data_ptr() for p in net.transformers[0].parameters()}
    assert not shared & {p.data_ptr() for vit in list(net.transformers)[1:] for p in vit.parameters()}
    assert net.sizes() == [3, 2, 4]


def test_the_first_task_starts_as_meat_s_that_trains_its_transformer() -> None:
    structure = {
        "kind": "masked_network", "vit": VIT, "token_mask_blocks": [0, 1], "plain_first": True, "classes": [3]
    }  # fmt: skip
    theirs, ours = build_network(structure, Key(1)), network(3)
    assert isinstance(theirs, MaskedNetwork)
    assert same(ours.transformers[0], theirs.vit)
    assert same(ours.heads[0], theirs.heads[0])


def by_hand(vit: PlainViT, head: nn.Linear, images: Tensor) -> Tensor:
    return torch.stack([head.weight @ vit(image[None])[0] + head.bias for image in images])


def test_scores_are_those_of_plain_transformers_with_heads() -> None:
    net = shaken(3, 2, 4)
    features = net(IMAGES)
    assert features.embeddings.shape == (6, 3, 16)
    pairs = zip(net.transformers, net.heads, strict=True)
    expected = [by_hand(vit, head, IMAGES) for vit, head in pairs]  # type: ignore[arg-type]
    torch.testing.assert_close(net.logits(features), torch.cat(expected, dim=1), atol=1e-5, rtol=1e-5)


def test_the_newest_is_asked_alone() -> None:
    net = shaken(3, 2)
    runs: list[int] = []
    for place, vit in enumerate(net.transformers):
        vit.register_forward_hook(lambda *_, place=place: runs.append(place))
    scores = net.newest_logits(net.newest(IMAGES))
    assert runs == [1]
    assert (scores[:, :3] == -torch.inf).all()
    torch.testing.assert_close(scores[:, 3:], net.logits(net(IMAGES))[:, 3:], atol=1e-6, rtol=1e-6)


def test_stochastic_depth_is_the_newest_transformer_s() -> None:
    net = shaken(3, 2)
    positions = torch.arange(6)
    scales = net.noise(Key(4), positions, positions, frozenset())
    assert scales is not None
    assert scales.shape == (4, 6), "two branches for each of its blocks"
    assert set(scales[:2].flatten().tolist()) == {1.0}
    assert set(scales[2:].flatten().tolist()) == {0.0, 2.0}
    expected = net.transformer(IMAGES, scales=scales)
    assert (expected - net.transformer(IMAGES)).abs().max() > 0.01
    assert torch.equal(net.newest(IMAGES, scales).embeddings[:, 0], expected)
    everything = net(IMAGES, scales).embeddings
    assert torch.equal(everything[:, 1], expected)
    assert torch.equal(everything[:, 0], net.transformers[0](IMAGES)), "old ones have none"
    assert net.noise(Key(4), positions, positions, frozenset({"transformer"})) is None


@pytest.mark.parametrize("classes", [(), (3,), (3, 2, 4)])
def test_it_comes_back_from_its_structure(classes: tuple[int, ...]) -> None:
    net = shaken(*classes)
    again = build_network(net.structure(), Key(99)).eval()
    again.load_state_dict(net.state_dict(), strict=True)
    assert again.structure() == net.structure()
    assert same(again, net)
    if classes:
        assert torch.equal(again.logits(again(IMAGES)), net.logits(net(IMAGES)))


def test_parts_are_all_parameters_once() -> None:
    net = network(3, 2, 4)
    parts = net.parts()
    listed = [id(p) for group in parts.values() for p in group]
    assert sorted(listed) == sorted(id(p) for p in net.parameters())
    one = len(list(PlainViT(**SIZES).parameters()))
    counts = {name: len(group) for name, group in parts.items()}
    assert counts == {"old_transformers": 2 * one, "transformer": one, "old_heads": 4, "head": 2}
    assert [len(group) for group in network(3).parts().values()] == [0, one, 0, 2]
