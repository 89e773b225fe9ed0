"""What cannot fit is one line before a network is built; what fits is let pass."""

from __future__ import annotations

import dataclasses
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_lightning.config.schema import Config
from cl_lightning.core.errors import UserError
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.factory.preprocessing import as_seen
from cl_lightning.factory.scenario import dataset_scenario
from cl_lightning.resources import memory_estimate
from cl_lightning.resources.memory_estimate import check_memory, forecast
from tests.config.made import filled
from tests.integration.commands import typed

pytestmark = pytest.mark.slow

GIB = 2**30


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_estimate, "machine_memory", lambda: 16 * GIB)


def _of_size(scenario: Scenario, image_size: int, channels: int = 3) -> Scenario:
    return dataclasses.replace(scenario, image_size=image_size, channels=channels)


def _config(*overrides: str) -> tuple[Config, Scenario]:
    config = filled(*overrides)
    return config, dataset_scenario(config.data)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("options", "image_size", "cause", "instead"),
    [
        (
            "model=convit_tiny model.dim=131072 model.num_heads=1",
            8,
            "model=convit_tiny with",
            "model.dim=N or model.depth=N",
        ),
        ("method=meat model=vit_tiny model.depth=2000 model.dim=8192", 8, "parameters needs at least", "model.dim=N"),
        ("model=convit_tiny model.patch_size=1", 512, "data.image_size=512 in so many patches", "model.patch_size=N"),
        ("method=wa batch.size=1000000", 8000, "batch.size=1000000 of data.image_size=8000", "a smaller batch.size=N"),
        ("method=ranpac method.projection=40000", 8, "method.projection=40000, squared, needs", "method.projection=N"),
        ("trainer.accelerator=cpu data.crop_padding=4000 method=wa", 16000, "batch.size=32", "data.crop_padding=N"),
    ],
)
def test_what_cannot_fit_is_reported_in_one_line(options: str, image_size: int, cause: str, instead: str) -> None:
    config, scenario = _config(*options.split(), "trainer.accelerator=cpu")
    with pytest.raises(UserError) as told:
        check_memory(config, _of_size(scenario, image_size))
    line = str(told.value)
    assert cause in line
    assert "GiB" in line or "TiB" in line
    assert ", and this machine has 16.0 GiB: type a smaller" in line
    assert instead in line


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    "options",
    ["", "method=der model=resnet18", "batch.size=1000000", "model=convit_cifar model.depth=100", "method=meat"],
)
def test_what_fits_is_let_pass(options: str) -> None:
    check_memory(*_config(*options.split(), "trainer.accelerator=cpu"))


def test_a_batch_is_no_more_than_the_first_task_has() -> None:
    small, large = (forecast(*_config(f"batch.size={size}")) for size in (100_000, 1_000_000))
    assert small.images == large.images


@pytest.mark.usefixtures("machine")
def test_stored_images_count_as_the_network_sees_them() -> None:
    config, scenario = _config("method=wa", "data.preprocess.size=4000", "batch.size=1000000")
    seen = as_seen(scenario, config.data)
    assert (seen.image_size, seen.read_size) == (4000, 8)
    with pytest.raises(
        UserError, match=r"batch.size=1000000 of data.preprocess.size=4000 needs .* data.preprocess.size="
    ):
        check_memory(config, seen)
    small = forecast(*_config("method=wa", "data.augmentation=none"))
    config, scenario = _config("method=wa", "data.augmentation=none", "data.preprocess.size=16")
    assert forecast(config, as_seen(scenario, config.data)).images > 3 * small.images


def test_the_way_of_learning_counts(machine: None) -> None:
    adam = forecast(*_config("method=dytox", "method.main.optimiser=adamw"))
    momentum = forecast(*_config("method=dytox", "method.main.optimiser=sgd"))
    plain = forecast(*_config("method=dytox", "method.main.optimiser=sgd", "method.main.momentum=0"))
    assert (adam.learning, momentum.learning, plain.learning) == tuple(k * adam.weights for k in (3, 2, 1))
    frozen = forecast(*_config("method=classifier_only", "method.backbone_file=given"))
    assert frozen.learning == 0


def test_sums_are_in_the_machine_s_memory() -> None:
    published = forecast(*_config("method=ranpac", "method.projection=10000"))
    assert published.sums == 3 * 8 * 10_000**2, "G, G + lambda I and its factor"
    both = forecast(*_config("method=ranpac", "method.projection=10000", "method.ridge=all"))
    assert both.sums == 5 * 8 * 10_000**2
    assert published.of_machine(trains_on_gpu=True) == published.built + published.sums
    given = forecast(*_config("method=simplecil", "model=vit_tiny", "method.backbone_file=given"))
    assert (given.learning, given.images, given.sums) == (0, 0, 0)


def test_a_forecast_is_less_than_a_step_takes() -> None:
    """Measured: a forward and a backward pass, and the optimiser's step."""
    from cl_lightning.core.rng import Key
    from cl_lightning.factory.methods import build_method

    config, scenario = _config("method=finetune", "model=convit_cifar", "batch.size=16")
    network: Any = build_method(config, scenario, Key(0)).network
    network.grow(2, Key(0))
    optimiser = torch.optim.AdamW(network.parameters())
    network.logits(network(torch.zeros(16, 1, 8, 8))).sum().backward()
    optimiser.step()
    tensors = [*network.parameters(), *network.buffers(), *(p.grad for p in network.parameters() if p.grad is not None)]
    tensors += [t for state in optimiser.state.values() for t in state.values()]
    need = forecast(config, scenario)
    assert need.built + need.learning <= sum(t.numel() * t.element_size() for t in tensors)


@pytest.mark.parametrize(
    "line",
    [
        ("model=convit_tiny", "model.dim=131072", "model.depth=2000"),
        ("method=meat", "model=vit_tiny", "model.dim=131072", "model.num_heads=1", "model.depth=2000"),
        ("method=wa", "model=resnet18", "model.width=16384"),
    ],
)
def test_from_the_command_line_it_ends_at_once(
    line: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_estimate, "machine_memory", lambda: 16 * GIB)
    tracemalloc.start()
    try:
        assert typed(f"run_dir={tmp_path / 'run'}", *line) == 2
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    told = capfd.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "needs at least" in told[0]
    assert peak < GIB
