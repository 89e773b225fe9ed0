"""SimpleCIL and RanPAC from options: where features come from, and what the head is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from cl_lightning.config.check import check
from cl_lightning.config.schema import FrozenConfig
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Act, Evaluate, Fit, Grow, Optimiser, Phase, Schedule, View
from cl_lightning.data.scenarios.scenario import Scenario, without_images
from cl_lightning.factory import frozen
from cl_lightning.factory.methods import build_method
from cl_lightning.methods.base import Method
from cl_lightning.methods.ranpac import RanPAC
from cl_lightning.models.build import build_network
from tests.config.made import filled

METHODS = ("simplecil", "ranpac")
NOTHING: Any = None
VIT = ("model=vit_tiny", "model.dim=16", "model.depth=1", "model.num_heads=2")


def scenario() -> Scenario:
    return without_images("digits", [str(label) for label in range(6)], (2, 2, 2), 8, 1)


def built(name: str, *overrides: str) -> Method:
    return build_method(filled(f"method={name}", "epochs_scale=1", *overrides), scenario(), Key(0))


@pytest.mark.parametrize("name", METHODS)
def test_without_weights_the_first_task_trains_the_backbone(name: str) -> None:
    method, tasks = built(name), scenario().tasks
    phase = Phase(
        "backbone", View.NEW, 200, Optimiser("sgd", 0.1, 5e-4, momentum=0.9),
        Schedule("steps", milestones=(0.3, 0.6, 0.8)), ("backbone", "classifier"),
    )  # fmt: skip
    assert method.plan(tasks[0]) == [Grow(), Fit(phase), Act("accumulate"), Evaluate()]
    assert method.plan(tasks[1]) == [Grow(), Act("accumulate"), Evaluate()]


@pytest.mark.parametrize("name", METHODS)
def test_with_weights_nothing_is_trained(name: str, tmp_path: Path) -> None:
    given = build_network(built(name, *VIT).network.structure(), Key(9))
    torch.save(given.backbone.vit.state_dict(), tmp_path / "vit.pth")  # type: ignore[union-attr,operator]
    method = built(name, *VIT, f"method.backbone_file={tmp_path}/vit.pth")
    first = scenario().tasks[0]
    assert method.plan(first) == [Grow(), Act("accumulate"), Evaluate()]
    method.grow(first, Key(0), NOTHING)
    loaded, theirs = method.network.backbone.state_dict(), given.backbone.state_dict()  # type: ignore[union-attr,operator]
    assert all(torch.equal(loaded[key], theirs[key]) for key in theirs)
    assert method.network.structure()["linear"] is False
    both = built(name, *VIT, f"method.backbone_file={tmp_path}/vit.pth", "method.backbone_task=true")
    assert any(isinstance(item, Fit) for item in both.plan(first)), "trained on, where that is asked for"


@pytest.mark.parametrize("name", METHODS)
def test_a_backbone_with_weights_is_adapted_by_the_first_task(name: str, tmp_path: Path) -> None:
    given = build_network(built(name, *VIT).network.structure(), Key(9))
    torch.save(given.backbone.vit.state_dict(), tmp_path / "vit.pth")  # type: ignore[union-attr,operator]
    for option in ("method.backbone_file", "model.weights_file"):
        method = built(name, *VIT, "method.adapt=true", "method.adapter_width=3", f"{option}={tmp_path}/vit.pth")
        phase = Phase(
            "adaptation", View.NEW, 20, Optimiser("sgd", 0.01, 5e-4, momentum=0.9), Schedule("cosine"),
            ("adapters", "classifier"),
        )  # fmt: skip
        first, second = scenario().tasks[:2]
        assert method.plan(first) == [Grow(), Fit(phase), Act("accumulate"), Evaluate()]
        assert method.plan(second) == [Grow(), Act("accumulate"), Evaluate()]
        method.begin()
        method.grow(first, Key(0), NOTHING)
        loaded = method.network.backbone.base.state_dict()  # type: ignore[union-attr]
        theirs = given.backbone.state_dict()  # type: ignore[union-attr,operator]
        assert all(torch.equal(loaded[key], theirs[key]) for key in theirs)
        assert sum(p.numel() for p in method.network.parts()["adapters"]) == 2 * 16 * 3 + 3 + 16


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        ("model=resnet8 model.weights_file=F", "model=resnet8 has no MLPs that method.adapt=true knows"),
        ("model=vit_tiny", "method.backbone_task=true trains the whole"),
        ("model=vit_tiny model.weights_file=F model.frozen=true", "nothing to adapt: type model.frozen=false"),
    ],
)
def test_what_cannot_be_adapted_is_refused(overrides: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        check(filled("method=ranpac", "method.adapt=true", *overrides.split()))


def test_timm_s_weights_are_loaded_when_the_first_task_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    timm = ("model=timm", "model.pretrained=true", "model.patch_size=4")
    method = built("ranpac", *timm, "method.projection=10")
    vit: Any = method.network.backbone.vit  # type: ignore[union-attr]
    weights = {name: torch.full_like(value, 0.5) for name, value in vit.state_dict().items()}
    monkeypatch.setattr(frozen, "timm_weights", lambda *asked: weights)
    first = scenario().tasks[0]
    assert method.plan(first) == [Grow(), Act("accumulate"), Evaluate()]
    method.grow(first, Key(0), NOTHING)
    assert all(bool((value == 0.5).all()) for value in vit.state_dict().values())


@pytest.mark.parametrize("name", METHODS)
def test_another_backbone_starts_from_the_model_s_own_file(name: str, tmp_path: Path) -> None:
    given = built("simplecil", "model=resnet8").network.backbone
    torch.save(given.state_dict(), tmp_path / "resnet.pth")  # type: ignore[union-attr]
    method = built(name, "model=resnet8", "seed=1", f"model.weights_file={tmp_path}/resnet.pth")
    first = scenario().tasks[0]
    assert method.plan(first) == [Grow(), Act("accumulate"), Evaluate()], "nothing is trained"
    method.begin()
    loaded, theirs = method.network.backbone.state_dict(), given.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(loaded[key], theirs[key]) for key in theirs)


def test_a_file_is_typed_where_the_model_reads_it() -> None:
    with pytest.raises(UserError, match=r"backbone_file=F is for a vision transformer .* type model.weights_file=F"):
        check(filled("method=simplecil", "model=resnet8", "method.backbone_file=F"))
    with pytest.raises(UserError, match=r"backbone_task=false needs .* model=timm_backbone\), model.weights_file=FILE"):
        check(filled("method=simplecil", "model=resnet8", "method.backbone_task=false"))


def test_a_transformer_is_read_at_its_own_class_token() -> None:
    kinds = {
        model: built("simplecil", f"model={model}").network.structure()["backbone"]["kind"]
        for model in ("vit_tiny", "convit_tiny", "resnet8")
    }
    assert kinds == {"vit_tiny": "plain_vit", "convit_tiny": "class_token", "resnet8": "cifar_resnet"}


def test_the_projection_is_the_seed_s() -> None:
    one, same, other = (
        build_method(filled("method=ranpac", "method.projection=11"), scenario(), Key(seed)).network.structure()
        for seed in (0, 0, 1)
    )
    assert one["projection"] == 11
    assert one["seed"] == same["seed"] != other["seed"]
    assert built("ranpac", "method.projection=0").network.structure()["projection"] == 0


def test_options_of_ranpac() -> None:
    for ridge, sums in (("task", 1), ("all", 2)):
        method = built("ranpac", f"method.ridge={ridge}", "method.projection=5")
        assert isinstance(method, RanPAC)
        assert len(method.sums) == sums
    method_options = filled("method=ranpac").method
    assert isinstance(method_options, FrozenConfig)
    assert method_options.backbone_task is True


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ("method.rehearsal=true", "type method.rehearsal=false"),
        ("method.backbone_task=false", "needs a backbone that has been trained"),
        (
            "model=vit_tiny method.backbone_file=F early_stopping.patience=3 data.validation=0.1",
            "early_stopping.patience=3 has no phase to end",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(overrides: str, told: str) -> None:
    from cl_lightning.config.check import check

    for name in METHODS:
        with pytest.raises(UserError, match=told):
            check(filled(f"method={name}", *overrides.split()))
