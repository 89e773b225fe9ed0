"""Weights that networks start from: loaded once, when the first task begins, and frozen where that is asked for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from cl_lightning.config.check import check, check_begin
from cl_lightning.core.errors import UserError
from cl_lightning.core.missing_keys import complete_configuration
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.core.types import Fit
from cl_lightning.data.scenarios.scenario import without_images
from cl_lightning.factory.methods import build_method
from cl_lightning.methods.base import Method
from cl_lightning.models.build import build_network
from cl_lightning.models.resnet import CifarResNet
from cl_lightning.models.timm_backbone import TimmBackbone
from tests.config.made import filled

SCENARIO = without_images("digits", list("abcd"), (2, 2), 8, 1)
TIMM = ("model=timm_backbone", "model.name=test_resnet")
METHODS = ("finetune", "joint", "lwf", "icarl", "ucir", "bic", "e2e", "wa", "der")
"""All that read a vector of a backbone that timm may give."""


def trained(folder: Path) -> Path:
    """A file of the weights of timm's network, as it is drawn from another key."""
    with torch_seeded(Key(7)):
        backbone = TimmBackbone(name="test_resnet", image_size=8, channels=1)
    torch.save(backbone.net.state_dict(), folder / "trained.pth")
    return folder / "trained.pth"


def built(*overrides: str) -> Method:
    config = filled(*overrides)
    check(config)
    return build_method(config, SCENARIO, Key(config.seed))


def first_backbone(method: Method) -> Any:
    network: Any = method.network
    return network.extractors[0] if hasattr(network, "extractors") else network.backbone


@pytest.mark.parametrize("method", METHODS)
def test_each_method_starts_from_a_file_when_the_first_task_begins(method: str, tmp_path: Path) -> None:
    file = tmp_path / "trained.pth"
    made = built(f"method={method}", *TIMM, f"model.weights_file={file}")  # not read yet
    trained(tmp_path)
    made.begin()
    made.network.grow(2, Key(0))
    expected = torch.load(file, weights_only=True)
    found = first_backbone(made).net.state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    made.network.grow(2, Key(1))
    structure = made.network.structure()
    assert "pretrained" not in str(structure)
    assert "weights" not in str(structure)


def test_a_network_of_ours_starts_from_a_file_too(tmp_path: Path) -> None:
    with torch_seeded(Key(7)):
        weights = CifarResNet(depth=8, channels=1).state_dict()
    torch.save(weights, tmp_path / "w.pth")
    made = built("method=wa", "model=resnet8", f"model.weights_file={tmp_path}/w.pth")
    made.begin()
    found = first_backbone(made).state_dict()
    assert all(torch.equal(found[key], value) for key, value in weights.items())


def run_file(folder: Path, *overrides: str) -> Path:
    """A file as a checkpoint of a run of ``overrides`` holds the network, with a task learnt."""
    made = built(*overrides, "seed=5")
    made.network.grow(2, Key(3))
    content = {"version": 3, "network": {"structure": made.network.structure(), "weights": made.network.state_dict()}}
    torch.save(content, folder / "checkpoint.pt")
    return folder / "checkpoint.pt"


@pytest.mark.parametrize("source", ["finetune", "meat", "simplecil"])
@pytest.mark.parametrize("option", ["model.weights_file", "method.backbone_file"])
def test_a_transformer_starts_from_a_run_of_any_method_on_it(source: str, option: str, tmp_path: Path) -> None:
    file = run_file(tmp_path, f"method={source}", "model=vit_tiny")
    stored = torch.load(file, weights_only=True)["network"]["weights"]
    theirs = {key.partition("vit.")[2]: value for key, value in stored.items() if "vit." in key}
    goals = ("wa", "der") if option == "model.weights_file" else ()
    for goal in (*goals, "meat", "individual", "ranpac"):
        made = built(f"method={goal}", "model=vit_tiny", f"{option}={file}")
        made.begin()
        made.grow(SCENARIO.tasks[0], Key(0), cast(Any, None))
        kept = made.network.state_dict()
        found = {name: value for key, value in kept.items() for name in [_of_a_transformer(key)] if name in theirs}
        assert found.keys() == theirs.keys(), goal
        assert all(torch.equal(found[key], theirs[key]) for key in theirs), goal


def _of_a_transformer(key: str) -> str:
    for before in ("vit.", "transformers.0."):
        if before in key:
            return key.partition(before)[2]
    return ""


def test_a_transformer_starts_from_timms_names_without_the_classifier(tmp_path: Path) -> None:
    vit = built("method=meat", "model=vit_tiny", "seed=5").network.vit  # type: ignore[union-attr]
    weights = vit.state_dict()
    torch.save({**weights, "head.weight": torch.zeros(3, 64), "head.bias": torch.zeros(3)}, tmp_path / "timm.pth")
    made = built("method=wa", "model=vit_tiny", f"model.weights_file={tmp_path}/timm.pth")
    made.begin()
    found = first_backbone(made).vit.state_dict()
    assert all(torch.equal(found[key], weights[key]) for key in weights)


@pytest.mark.parametrize("model", ["vit_tiny", "resnet8", "resnet18"])
def test_a_network_of_ours_may_be_frozen(model: str, tmp_path: Path) -> None:
    small = ("model.width=2",) if model == "resnet18" else ()
    file = run_file(tmp_path, "method=finetune", f"model={model}", *small)
    made = built("method=finetune", f"model={model}", *small, "model.frozen=true", f"model.weights_file={file}")
    assert [item.phase.trains for item in made.plan(SCENARIO.tasks[0]) if isinstance(item, Fit)] == [("classifier",)]
    made.network.train()
    assert not any(module.training for module in first_backbone(made).modules())
    assert made.network.frozen_trunk() is first_backbone(made)
    again = build_network(made.network.structure(), Key(0))
    assert first_backbone(cast(Any, SimpleNamespace(network=again))).frozen
    assert "frozen" not in str(built("method=finetune", f"model={model}", *small).network.structure())


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ("method=der model=resnet8 model.frozen=true", "leaves method=der nothing to learn"),
        ("method=meat model=vit_tiny model.frozen=true", "has no meaning for method=meat, which decides"),
        ("method=wa model=resnet8 model.frozen=true", r"trained: type model\.weights_file=FILE or model\.frozen=false"),
        ("method=meat model=vit_tiny model.weights_file=A method.backbone_file=B", "B and model.weights_file=A both"),
        ("method=podnet model=vit_tiny", "a transformer has none; type model=resnet32"),
        ("method=dytox model=vit_tiny", "model=vit_tiny has no patch tokens for method=dytox"),
    ],
)
def test_what_does_not_go_with_networks_of_ours(overrides: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        built(*overrides.split())


def test_a_run_without_a_file_starts_as_it_was_drawn() -> None:
    made, again = (built("method=wa", "model=resnet8") for _ in range(2))
    made.begin()
    state = again.network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in made.network.state_dict().items())


def test_a_file_that_does_not_fit_is_told_by_its_option(tmp_path: Path) -> None:
    file = trained(tmp_path)
    made = built("method=wa", "model=resnet8", f"model.weights_file={file}")
    with pytest.raises(UserError, match=rf"^model\.weights_file={file} is not of this model: "):
        made.begin()
    missing = filled("method=wa", "model=resnet8", "model.weights_file=nix.pth")
    with pytest.raises(UserError, match=r"^model\.weights_file=nix\.pth is no file: type model\.weights_file=FILE"):
        check_begin(missing)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "der"])
def test_a_frozen_network_is_trained_by_no_phase(method: str, tmp_path: Path) -> None:
    made = built(f"method={method}", *TIMM, "model.frozen=true", f"model.weights_file={trained(tmp_path)}")
    phases = [item.phase for task in SCENARIO.tasks for item in made.plan(task) if isinstance(item, Fit)]
    assert phases
    assert all(phase.trains and "backbone" not in phase.trains for phase in phases)
    made.network.train()
    assert not first_backbone(made).net.training


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ("method=dytox", r"model=timm_backbone model\.name=test_resnet has no patch tokens for method=dytox"),
        ("method=daformer_m", "has no patch tokens for method=daformer_m"),
        ("method=meat", "has no class token that passes all blocks, for method=meat"),
        ("method=podnet", "method=podnet compares maps of height and width, and it gives none; type model=resnet32"),
        ("method=der model.frozen=true", "type model.frozen=false"),
        ("method=wa model.frozen=true", r"needs a network that has been trained: type model\.pretrained=true"),
        ("method=wa model.pretrained=true model.weights_file=F", "both give weights: leave out one"),
        ("method=wa model.patch_size=3", "data.image_size=8 is not divisible by model.patch_size=3"),
    ],
)
def test_what_does_not_go_together_is_refused(overrides: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        built(*TIMM, *overrides.split())


@pytest.mark.parametrize("name", ["resnet8", "resnet18", "resnet32", "vit_tiny", "vit_cifar"])
def test_runs_from_before_started_as_they_were_drawn(name: str) -> None:
    completed = complete_configuration({"model": {"name": name, "shortcut": "padded"}})
    assert completed["model"]["weights_file"] is None
    assert completed["model"]["frozen"] is False
