"""The trunk of a growing network is compiled once, gives what it gave, and can do without a compiler."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from cl_lightning.core.rng import Key
from cl_lightning.learning.trunk_compiler import TrunkCompiler
from cl_lightning.methods.base import frozen_copy
from cl_lightning.models.build import build_network
from cl_lightning.models.network import Network

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unchecked_shapes")]
ENCODER = {
    "kind": "convit", "image_size": 8, "channels": 3, "patch_size": 4, "dim": 24, "num_heads": 4, "depth": 2,
    "mlp_ratio": 2.0, "locality": 1.0, "drop_path": 0.1,
}  # fmt: skip
IMAGES = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _forget() -> None:
    torch._dynamo.reset()


def network(depth: int = 2) -> Network:
    structure = {
        "kind": "task_network", "encoder": {**ENCODER, "depth": depth}, "decoder": {"kind": "task_attention"},
        "diverge": True, "independent_heads": True, "classes": [2],
    }  # fmt: skip
    return build_network(structure, Key(0))


def ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name.startswith("cl_lightning")]


def scales(grown: Network) -> torch.Tensor:
    branches = len(grown.branches())
    return torch.linspace(0, 1.2, branches * len(IMAGES)).reshape(branches, -1)


def test_ten_tasks_compile_a_handful_of_graphs() -> None:
    counter = CompileCounter()
    trunks, net = TrunkCompiler(True, counter), network()
    for task in range(10):
        teacher = frozen_copy(net)
        net.grow(2, Key(task))
        net.requires_grad_(True)
        with trunks.compiled([net, teacher], len(IMAGES)):
            net(IMAGES, scales(net)).embeddings.sum().backward()
            with torch.no_grad():
                teacher(IMAGES)
        net.requires_grad_(False)  # fine-tuning
        net.decoder.tokens[0].requires_grad_(True)
        with trunks.compiled([net], len(IMAGES)):
            net(IMAGES, scales(net))
    assert counter.frame_count == 3, "trained, frozen and as a teacher: whatever has grown, the trunk is the same"


@pytest.mark.long
def test_compiled_code_computes_what_the_modules_do() -> None:
    net = network()
    plain = net(IMAGES, scales(net)).embeddings
    plain.square().sum().backward()
    expected = [parameter.grad for parameter in net.parameters()]
    net.zero_grad()
    with TrunkCompiler(True).compiled([net], len(IMAGES)):
        compiled = net(IMAGES, scales(net)).embeddings
        compiled.square().sum().backward()
    torch.testing.assert_close(compiled, plain, atol=1e-6, rtol=1e-5)
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)


def test_batches_of_other_sizes_pass_the_modules_themselves() -> None:
    counter = CompileCounter()
    net = network()
    with TrunkCompiler(True, counter).compiled([net], len(IMAGES)):
        net(IMAGES[:3])
        assert counter.frame_count == 0
        net(IMAGES)
    assert counter.frame_count == 1


def test_off_is_off_and_a_network_is_itself_again_afterwards() -> None:
    counter = CompileCounter()
    net = network()
    (name,) = net.trunks()
    for wanted in (False, True):
        with TrunkCompiler(wanted, counter).compiled([net], len(IMAGES)):
            assert (name in vars(net)) is wanted
            assert net(IMAGES).embeddings.shape == (5, 1, 24)
        assert counter.frame_count == int(wanted)
        assert name not in vars(net), "else a teacher that is copied would run its student's code"


def test_without_a_compiler_the_network_runs_and_one_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    tried: list[int] = []

    def backend(*arguments: Any) -> Any:
        tried.append(1)
        raise RuntimeError("no C++ compiler\nand a long story")

    net = network()
    expected = net(IMAGES).embeddings
    trunks = TrunkCompiler(True, backend)
    for _ in range(2):
        with trunks.compiled([net], len(IMAGES)):
            assert torch.equal(net(IMAGES).embeddings, expected)
            assert torch.equal(net(IMAGES).embeddings, expected)
    assert len(tried) == 1, "tried once, not at every step"
    (record,) = ours(caplog)
    assert "no C++ compiler" in record.getMessage()
    assert "trainer.compile=none" in record.getMessage()


def test_a_way_back_that_cannot_be_compiled_is_noticed_on_the_way_there(caplog: pytest.LogCaptureFixture) -> None:
    """Else it would be compiled, and fail, in the middle of ``backward``."""
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.aot_autograd import make_boxed_func

    def fails(*_: Any) -> Any:
        raise RuntimeError("the back is broken")

    net, trunks = (
        network(),
        TrunkCompiler(True, aot_autograd(fw_compiler=lambda g, _: make_boxed_func(g), bw_compiler=fails)),
    )
    with trunks.compiled([net], len(IMAGES)):
        net(IMAGES).embeddings.sum().backward()
    assert trunks.given_up
    (record,) = ours(caplog)
    assert "the back is broken" in record.getMessage()


def test_a_missing_compiler_is_noticed(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor import config

    monkeypatch.setattr(config.cpp, "cxx", ("/missing/compiler",))
    net = network()
    with config.patch(fx_graph_cache=False), TrunkCompiler(True).compiled([net], len(IMAGES)):
        net(IMAGES)
    (record,) = ours(caplog)
    assert "/missing/compiler" in record.getMessage()


@pytest.mark.parametrize("asked_for", [True, False])
def test_what_cannot_be_compiled_is_reported_once_to_who_asked(
    asked_for: bool, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = {"kind": "cifar_resnet", "depth": 8}
    net = build_network({"kind": "embedding_network", "backbone": backbone, "bias": True, "classes": [2]}, Key(0))
    trunks = TrunkCompiler(True, CompileCounter(), asked_for=asked_for)
    for _ in range(2):
        with trunks.compiled([net], 4):
            pass
    assert [record.getMessage().split(":")[0] for record in ours(caplog)] == (
        ["trainer.compile=trunk is ignored"] if asked_for else []
    )


@pytest.mark.gpu
def test_on_a_gpu_compiled_code_computes_what_the_network_does() -> None:
    """In half precision, our kernels and the combined small ones included."""
    net, images, found = network().cuda(), IMAGES.cuda(), []
    noise = scales(net).cuda()
    for trunks in (TrunkCompiler(False), TrunkCompiler(True)):
        net.zero_grad()
        with trunks.compiled([net], len(IMAGES)), torch.autocast("cuda", torch.bfloat16):
            embeddings = net(images, noise).embeddings
        embeddings.float().square().sum().backward()
        gradients = [parameter.grad.flatten() for parameter in net.parameters() if parameter.grad is not None]
        found.append((embeddings.detach().float(), torch.cat(gradients)))
    for ours, plain in zip(found[1], found[0], strict=True):
        assert (ours - plain).norm() / plain.norm() < 0.02
    assert not trunks.given_up, "it was compiled"


@pytest.mark.long
def test_more_shapes_than_torch_allows_are_compiled_all_the_same() -> None:
    """Jobs of a multirun run in one process, and their trunks share their code."""
    counter = CompileCounter()
    for images in range(2, 11):
        with TrunkCompiler(True, counter).compiled([net := network(depth=1)], images):
            net(torch.randn(images, 3, 8, 8))
    assert counter.frame_count == 9
