"""HAT's network: sizes, dropout that is counted, and images of any size."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cl_lightning.core import rng
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.alexnet import AlexNet
from cl_lightning.models.build import build_backbone

POSITIONS = torch.arange(6)


def small(size: int = 16, *, dropout: bool = True) -> AlexNet:
    with torch_seeded(Key(1)):
        return AlexNet(image_size=size, channels=2, width=4, hidden=20, dropout=dropout)


def images(size: int = 16) -> torch.Tensor:
    return rng.normal(Key(3), POSITIONS[:, None], torch.arange(2 * size**2)).view(6, 2, size, size)


def test_the_published_sizes() -> None:
    with torch.device("meta"):
        net = AlexNet(image_size=32)
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters() if name.endswith("weight")}
    assert shapes == {
        "convolutions.0.weight": (64, 3, 4, 4),
        "convolutions.1.weight": (128, 64, 3, 3),
        "convolutions.2.weight": (256, 128, 2, 2),
        "layers.0.weight": (2048, 1024),
        "layers.1.weight": (2048, 2048),
    }
    assert (net.dim, net.positions) == (2048, 4)


def test_without_noise_it_is_its_formula() -> None:
    net = small()
    x = images()
    for convolution in net.convolutions:
        x = F.max_pool2d(F.relu(convolution(x)), 2) if x.shape[-1] > 2 else F.relu(convolution(x))
    for layer in net.layers:
        x = F.relu(layer(x.flatten(1)))
    found, maps = net(images())
    torch.testing.assert_close(found, x)
    assert len(maps) == 3


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 12, 40])
def test_images_of_any_size_have_features(size: int) -> None:
    net = small(size)
    found = net(images(size), net.noise(Key(0), POSITIONS))[0]
    assert found.shape == (6, 20)
    again = build_backbone(net.structure())
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(images(size))[0], net(images(size))[0])


def test_an_image_s_dropout_does_not_depend_on_the_others() -> None:
    net = small()
    noise = net.noise(Key(5), POSITIONS)
    assert noise is not None
    whole = net(images(), noise)[0]
    parts = [net(images()[k : k + 2], noise[:, k : k + 2])[0] for k in (0, 2, 4)]
    torch.testing.assert_close(torch.cat(parts), whole)
    assert not torch.equal(whole, net(images())[0])


def test_the_published_shares_are_left_out_and_the_rest_is_larger() -> None:
    net = AlexNet(image_size=32, channels=1, width=4, hidden=400)
    for layer in net.layers:
        torch.nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
        torch.nn.init.ones_(layer.bias)  # type: ignore[arg-type]
    streams = net.noise(Key(7), torch.arange(50))
    assert streams is not None
    found = net.layer(3, torch.zeros(50, 16, 2, 2), streams[0])
    assert set(found.unique().tolist()) == {0.0, 2.0}
    assert (found == 0).double().mean().item() == pytest.approx(0.5, abs=0.01)
    convolution = net.convolutions[0]
    torch.nn.init.zeros_(convolution.weight)  # type: ignore[arg-type]
    torch.nn.init.ones_(convolution.bias)  # type: ignore[arg-type]
    net_of_one = net.layer(0, torch.zeros(50, 1, 32, 32), streams[0])
    assert (net_of_one == 0).double().mean().item() == pytest.approx(0.2**4, abs=0.001), "pooled: all of four"
    assert net_of_one.max().item() == pytest.approx(1.25, rel=1e-4)
    assert AlexNet(image_size=8, dropout=False).noise(Key(0), POSITIONS) is None


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="hidden=0 is no size"):
        AlexNet(image_size=8, hidden=0)
