"""Costs of a network and of a process: counts by hand, and nothing changed by counting."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.core.rng import Key
from cl_lightning.models.build import build_network
from cl_lightning.resources.costs import forget_peaks, multiply_adds, peak_gpu_memory, peak_memory
from tests.learning.a_phase import CONVIT, toy


def test_the_multiply_adds_of_a_small_resnet_by_hand() -> None:
    network = toy(2, 3, resnet=True).network
    first = 8 * 8 * 9 * 1 * 16
    blocks = [
        8 * 8 * 9 * 2 * 16 * 16,
        4 * 4 * 9 * (16 * 32 + 32 * 32),
        2 * 2 * 9 * (32 * 64 + 64 * 64),
    ]
    assert multiply_adds(network, 8, 1) == first + sum(blocks) + 64 * 5
    assert multiply_adds(network, 16, 1) == 4 * (first + sum(blocks)) + 64 * 5


def test_attention_is_counted() -> None:
    """A second block of N patches adds 12 N D^2 for its layers and 3 N^2 D for attention: content with keys and values,
    position with values.
    """
    counts = []
    for depth in (1, 2):
        backbone = {"kind": "class_token", "encoder": {**CONVIT, "patch_size": 2, "depth": depth}}
        structure = {"kind": "embedding_network", "backbone": backbone, "bias": True, "classes": [2]}
        counts.append(multiply_adds(build_network(structure, Key(0)), 8, 1))
    patches, dim = (8 // 2) ** 2, CONVIT["dim"]
    assert counts[1] - counts[0] == 12 * patches * dim**2 + 3 * patches**2 * dim


def test_counting_changes_nothing() -> None:
    network = toy(2).network
    network.train()
    part = next(network.children())
    part.eval()
    frozen = next(network.parameters())
    frozen.requires_grad_(False)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    trained = [parameter.requires_grad for parameter in network.parameters()]
    state = torch.get_rng_state()
    assert multiply_adds(network, 8, 1) == multiply_adds(network, 8, 1) > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == trained
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_a_network_that_fails_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    network = toy(2).network
    network.train()

    def broken(features: object) -> None:
        raise RuntimeError("no scores")

    monkeypatch.setattr(network, "logits", broken)
    with pytest.raises(RuntimeError, match="no scores"):
        multiply_adds(network, 8, 1)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_the_peak_of_a_process_is_at_least_what_it_holds() -> None:
    held = torch.ones(16 << 20)
    assert peak_memory() > held.numel() * 4
    assert peak_memory() < 1 << 42, "bytes, not kilobytes of them"


@pytest.mark.skipif(torch.cuda.is_initialized(), reason="a GPU is in use")
def test_without_a_gpu_there_is_no_peak_of_one() -> None:
    forget_peaks()
    assert peak_gpu_memory() is None


@pytest.mark.gpu
def test_the_peak_of_a_gpu_is_that_of_the_run() -> None:
    large = torch.ones(64 << 20, device="cuda")
    del large
    forget_peaks()
    small = torch.ones(1 << 20, device="cuda")
    peak = peak_gpu_memory()
    assert peak is not None
    assert 4 * small.numel() <= peak < 4 * (64 << 20)


@pytest.mark.gpu
def test_a_network_costs_the_same_on_a_gpu() -> None:
    for one in (toy(2).network, toy(2, resnet=True).network):
        on_cpu = multiply_adds(one, 8, 1)
        assert multiply_adds(one.cuda(), 8, 1) == on_cpu
