"""HAT's network on all its backbones: what a closed unit carries, what later tasks move, and how it is described."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.build import build_backbone, build_network
from cl_lightning.models.gated_backbones import gated, own_norms
from cl_lightning.models.hat_network import HatNetwork
from cl_lightning.models.timm_backbone import TimmBackbone

BACKBONES: dict[str, dict[str, Any]] = {
    "alexnet": {"kind": "alexnet", "image_size": 8, "channels": 1, "width": 4, "hidden": 12},
    "resnet": {"kind": "cifar_resnet", "depth": 8, "channels": 1, "width": 4},
    "resnet, projections, no last relu": {
        "kind": "cifar_resnet", "depth": 8, "channels": 1, "width": 4, "shortcut": "projection", "last_relu": False,
    },
    "resnet18": {"kind": "resnet18", "width": 2, "channels": 1, "stem": "pooled"},
    "vit": {
        "kind": "plain_vit", "image_size": 8, "channels": 1, "patch_size": 4, "dim": 8, "depth": 2, "num_heads": 4,
        "drop_path": 0.3,
    },
}  # fmt: skip
POSITIONS = torch.arange(10)
IMAGES = rng.normal(Key(3), POSITIONS[:, None], torch.arange(64)).view(10, 1, 8, 8)


@pytest.fixture(params=BACKBONES)
def network(request: pytest.FixtureRequest) -> HatNetwork:
    with torch_seeded(Key(1)):
        made = HatNetwork(build_backbone(BACKBONES[request.param]))
    with torch.no_grad(), torch_seeded(Key(2)):
        for parameter in made.parameters():  # a zero scale of a norm would hide what is behind it
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def open_units(network: HatNetwork, task: int) -> None:
    """Open about half of the units, each wholly, as many masks end."""
    drawn = rng.uniform(Key(8).fold(task), torch.arange(len(network.used)))
    with torch.no_grad():
        network.embeddings[task].copy_(torch.where(drawn < 0.5, 6.0, -6.0))


def learn(network: HatNetwork, steps: int = 3) -> None:
    """Take steps on random labels, with the noise of a run and steep masks."""
    network.train()
    parts = network.parts()
    trained = [p for name in ("backbone", "head") for p in parts[name]]
    for name, parameters in parts.items():
        for parameter in parameters:
            parameter.requires_grad_(name in ("backbone", "embedding", "head"))
    network.anneal(0.99)
    for step in range(steps):
        noise = network.noise(Key(4).fold(step), POSITIONS, torch.zeros_like(POSITIONS), frozenset())
        scores = network.newest_logits(network.newest(IMAGES, noise))[:, -3:]
        torch.nn.functional.cross_entropy(scores, POSITIONS % 3).backward()
        torch.optim.SGD(trained, lr=0.1, momentum=0.9).step()
        network.zero_grad()
    network.eval()


def scores(network: HatNetwork) -> Tensor:
    with torch.no_grad():
        return network.logits(network(IMAGES))


def test_older_tasks_answer_to_the_bit_what_they_did(network: HatNetwork) -> None:
    """A unit that a task uses is closed to later ones, and one that it does not use reaches none of its scores."""
    for task in range(3):
        network.grow(3, Key(task))
        open_units(network, task)
        before = scores(network)
        learn(network)
        after = scores(network)
        assert torch.equal(after[:, : 3 * task], before[:, : 3 * task]), f"task {task} moved older scores"
        assert not torch.equal(after[:, 3 * task :], before[:, 3 * task :]), "the newest task learns"
        network.accumulate()
        assert network.learnt == task + 1
    assert 0.7 < network.used.mean() < 1


def test_without_what_is_spared_they_would_not(network: HatNetwork) -> None:
    network.grow(3, Key(0))
    open_units(network, 0)
    learn(network)
    network.grow(3, Key(1))
    open_units(network, 1)
    before = scores(network)
    learn(network)
    assert not torch.equal(scores(network)[:, :3], before[:, :3]), "nothing has been accumulated"


def test_a_closed_unit_carries_nothing(network: HatNetwork) -> None:
    """All that a closed unit is made of may be anything."""
    network.grow(3, Key(0))
    open_units(network, 0)
    network.eval()
    before, masks = scores(network), network.by_layer(network.masks(0).detach())
    named = dict(network.body.named_parameters())
    with torch.no_grad():
        for name, place in network.body.places().items():
            out, into = place.used(masks, named[name].ndim)
            closed = (torch.minimum(out, into) == 0).expand(named[name].shape)
            named[name][closed] += 7.0
    assert torch.equal(scores(network), before)


def test_every_parameter_is_spared_or_a_norm_of_the_task_s_own(network: HatNetwork) -> None:
    named = {name for name, _ in network.body.named_parameters()}
    of_norms = set(own_norms(network.body)) & named
    assert set(network.body.places()) | of_norms == named
    assert not set(network.body.places()) & of_norms


def test_open_masks_leave_the_backbone_as_it_is(network: HatNetwork) -> None:
    network.eval()
    gates = [torch.ones(units) for units in network.body.units]
    with torch.no_grad():
        torch.testing.assert_close(network.body(IMAGES, gates), network.body.backbone(IMAGES)[0])


def test_it_is_built_again_from_its_description(network: HatNetwork) -> None:
    for task, size in enumerate((3, 1, 2)):
        network.grow(size, Key(task))
        open_units(network, task)
        if task < 2:
            network.accumulate()
    again = build_network(network.structure(), Key(9))
    again.load_state_dict(network.state_dict(), strict=True)
    network.eval()
    again.eval()
    assert isinstance(again, HatNetwork)
    assert again.learnt == 2
    assert torch.equal(scores(again), scores(network))
    assert again.structure() == network.structure()


def test_the_newest_task_trains_through_its_annealed_masks(network: HatNetwork) -> None:
    network.grow(2, Key(0))
    assert network.scale.item() == pytest.approx(1 / 400)
    network.anneal(0.5)
    (masks,) = network.newest(IMAGES).maps
    torch.testing.assert_close(masks[0], torch.sigmoid(200.00125 * network.embeddings[0]))
    network.clamp(0.5)
    assert network.embeddings[0].abs().max() == 0.5


def test_a_backbone_without_masked_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="backbone=timm_backbone has no layers that can be masked"):
        gated(TimmBackbone(name="resnet10t", image_size=32, channels=1, patch_size=None))
