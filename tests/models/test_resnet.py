from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.models.replica_norm import ReplicaBatchNorm2d, hold_statistics, set_replicas
from cl_lightning.models.resnet import BasicBlock, CifarResNet, PaddedShortcut, ResNet18


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return rng.normal(Key(seed), torch.arange(torch.Size(shape).numel())).view(shape)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# ---- batch norm per replica ---------------------------------------------------------------------------------------


def random_norm() -> ReplicaBatchNorm2d:
    norm = ReplicaBatchNorm2d(5)
    norm.load_state_dict({
        "weight": images(5, seed=1),
        "bias": images(5, seed=2),
        "running_mean": images(5, seed=3),
        "running_var": images(5, seed=4).square() + 0.5,
        "num_batches_tracked": torch.tensor(0),
    })  # fmt: skip
    return norm


def plain(norm: ReplicaBatchNorm2d) -> nn.BatchNorm2d:
    batch_norm = nn.BatchNorm2d(5)
    batch_norm.load_state_dict(norm.state_dict())
    return batch_norm


@pytest.mark.parametrize("training", [True, False])
def test_one_replica_is_batch_norm_to_the_bit(training: bool) -> None:
    norm = random_norm().train(training)
    reference = plain(norm).train(training)
    x = images(6, 5, 3, 4)
    assert torch.equal(norm(x), reference(x))
    for name, value in reference.state_dict().items():
        assert torch.equal(norm.state_dict()[name], value), name


@pytest.mark.parametrize("replicas", [2, 3])
def test_replicas_are_separate_forward_passes(replicas: int) -> None:
    norm = random_norm()
    set_replicas(norm, replicas)
    x = images(6, 5, 3, 4).requires_grad_(True)
    separate = [plain(norm) for _ in range(replicas)]
    expected = torch.cat([bn(part) for bn, part in zip(separate, x.chunk(replicas), strict=True)])
    weights = images(6, 5, 3, 4, seed=9)
    gradient, *affine = torch.autograd.grad(
        (expected * weights).sum(), [x, *(p for bn in separate for p in (bn.weight, bn.bias))]
    )
    out = norm(x)
    torch.testing.assert_close(out, expected)
    ours = torch.autograd.grad((out * weights).sum(), [x, norm.weight, norm.bias])
    torch.testing.assert_close(ours[0], gradient)
    torch.testing.assert_close(ours[1], torch.stack(affine[::2]).sum(0))
    torch.testing.assert_close(ours[2], torch.stack(affine[1::2]).sum(0))
    for name in ("running_mean", "running_var"):
        mean = torch.stack([getattr(bn, name) for bn in separate]).mean(0)
        torch.testing.assert_close(getattr(norm, name), mean)
    assert norm.state_dict()["num_batches_tracked"].item() == 1
    assert not torch.allclose(out, plain(random_norm())(x)), "whole-batch statistics would have done as well"


def test_evaluation_ignores_replicas_and_unequal_parts_are_refused() -> None:
    norm = random_norm().eval()
    x = images(5, 5, 2, 2)
    before = norm(x)
    set_replicas(norm, 2)
    assert torch.equal(norm(x), before)
    with pytest.raises(AssertionError, match="5 images"):
        norm.train()(x)


@pytest.mark.parametrize("replicas", [1, 2])
def test_one_value_of_a_channel_is_normalised_as_in_evaluation(replicas: int) -> None:
    """torch refuses it: the last batch of an epoch may be one image."""
    norm = random_norm()
    set_replicas(norm, replicas)
    x, before = images(replicas, 5, 1, 1), copy.deepcopy(norm.state_dict())
    assert torch.equal(norm.train()(x), copy.deepcopy(norm).eval()(x))
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_norms_that_nothing_trains_can_be_held() -> None:
    network = CifarResNet(depth=8)
    trained = [parameter for name, parameter in network.named_parameters() if not name.startswith("norm.")]
    hold_statistics(network.train(), trained)
    norms = {
        name: module.training for name, module in network.named_modules() if isinstance(module, ReplicaBatchNorm2d)
    }
    assert [name for name, training in norms.items() if not training] == ["norm"]
    assert len(norms) == 7


def test_set_replicas_reaches_every_norm_of_a_network() -> None:
    network = CifarResNet(depth=8)
    set_replicas(network, 2)
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == 7  # 6n + 1 convolutions
    assert all(isinstance(norm, ReplicaBatchNorm2d) and norm.replicas == 2 for norm in norms)
    x = images(4, 3, 8, 8)
    halves = [copy.deepcopy(network) for _ in range(2)]
    for half in halves:
        set_replicas(half, 1)
    expected = torch.cat([half(part)[0] for half, part in zip(halves, x.chunk(2), strict=True)])
    torch.testing.assert_close(network(x)[0], expected)


# ---- the networks -------------------------------------------------------------------------------------------------


def test_parameter_counts() -> None:
    with torch.device("meta"):
        assert count(CifarResNet(depth=32)) + 64 * 10 + 10 == 464_154  # 0.46 M; He et al., table 6
        assert count(CifarResNet(depth=20)) + 64 * 10 + 10 == 269_722  # 0.27 M
        assert count(ResNet18()) + 512 * 100 == 11_220_032  # 11.22 M: the table's, classifier without bias


@pytest.mark.parametrize(("depth", "convolutions"), [(8, 7), (14, 13), (20, 19), (32, 31)])
def test_depth_counts_the_layers_with_weights(depth: int, convolutions: int) -> None:
    network = CifarResNet(depth=depth, channels=1)
    assert sum(isinstance(module, nn.Conv2d) for module in network.modules()) == convolutions  # and the classifier


@pytest.mark.parametrize(
    ("network", "size", "shapes"),
    [
        (CifarResNet(depth=8), 32, [(16, 32), (32, 16), (64, 8)]),
        (CifarResNet(depth=8, channels=1), 8, [(16, 8), (32, 4), (64, 2)]),
        (CifarResNet(depth=8, channels=1), 7, [(16, 7), (32, 4), (64, 2)]),
        (CifarResNet(depth=8), 1, [(16, 1), (32, 1), (64, 1)]),
        (ResNet18(width=4), 32, [(4, 32), (8, 16), (16, 8), (32, 4)]),
        (ResNet18(width=4, stem="large"), 64, [(4, 16), (8, 8), (16, 4), (32, 2)]),
        (ResNet18(width=4, channels=1), 8, [(4, 8), (8, 4), (16, 2), (32, 1)]),
    ],
)
def test_shapes(network: CifarResNet | ResNet18, size: int, shapes: list[tuple[int, int]]) -> None:
    channels = network.structure()["channels"]
    vectors, maps = network(images(3, channels, size, size))
    assert [tuple(m.shape) for m in maps] == [(3, c, s, s) for c, s in shapes]
    assert vectors.shape == (3, network.dim) == (3, shapes[-1][0])
    torch.testing.assert_close(vectors, maps[-1].flatten(2).mean(-1))


def test_a_block_against_its_equations() -> None:
    with rng.torch_seeded(Key(1)):
        block = BasicBlock(2, 4, PaddedShortcut)
    x = images(3, 2, 6, 6)
    identity = torch.zeros(3, 4, 3, 3)
    for row in range(3):
        for col in range(3):
            identity[:, :2, row, col] = x[:, :, 2 * row, 2 * col]

    def norm(z: torch.Tensor) -> torch.Tensor:
        variance = z.var(dim=(0, 2, 3), unbiased=False, keepdim=True)
        return (z - z.mean(dim=(0, 2, 3), keepdim=True)) / (variance + 1e-5).sqrt()

    hidden = norm(nn.functional.conv2d(x, block.conv1.weight, stride=2, padding=1)).clamp(min=0)
    expected = norm(nn.functional.conv2d(hidden, block.conv2.weight, padding=1)) + identity
    torch.testing.assert_close(block(x), expected.clamp(min=0))
    block.relu = False
    torch.testing.assert_close(block(x), expected)


def test_last_relu_is_the_very_last_only() -> None:
    with rng.torch_seeded(Key(0)):
        network = CifarResNet(depth=14, last_relu=False)
    vectors, maps = network(images(8, 3, 16, 16))
    assert (vectors < 0).any()
    assert all((m >= 0).all() for m in maps[:-1])
    assert [block.relu for block in network.modules() if isinstance(block, BasicBlock)] == [True] * 5 + [False]
    with rng.torch_seeded(Key(0)):
        usual = CifarResNet(depth=14)
    torch.testing.assert_close(usual(images(8, 3, 16, 16))[1][-1], maps[-1].clamp(min=0))


def test_initialisation() -> None:
    with rng.torch_seeded(Key(0)):
        network = ResNet18(width=16)
    widening = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.weight.shape == (128, 64, 3, 3)]
    assert widening[0].weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)  # 9 * 64 is the fan-in
    assert all((b.norm2.weight == 0).all() for b in network.modules() if isinstance(b, BasicBlock))
    with rng.torch_seeded(Key(0)):
        again = ResNet18(width=16)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))


def test_structure_says_how_to_build_it_again() -> None:
    for network in (CifarResNet(depth=14, channels=1, last_relu=False), ResNet18(width=8, channels=1, stem="large")):
        structure = dict(network.structure())
        assert structure.pop("kind") == {CifarResNet: "cifar_resnet", ResNet18: "resnet18"}[type(network)]
        type(network)(**structure).load_state_dict(network.state_dict())


@pytest.mark.parametrize("depth", [2, 18, 33])
def test_impossible_depths_are_reported_in_one_line(depth: int) -> None:
    with pytest.raises(ValueError, match=rf"^depth={depth} .*pass depth=32[^\n]*$"):
        CifarResNet(depth=depth)


def test_impossible_width_is_reported_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^width=0 .*pass width=64[^\n]*$"):
        ResNet18(width=0)
