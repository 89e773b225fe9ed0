"""Individual models' own promises: where each task starts, what its steps run and train, which phase it has, and that
no task touches another.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cl_lightning.config.compose import compose_typed
from cl_lightning.core import rng
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.core.types import Batch, Evaluate, Fit, Grow, Optimiser, Phase, Schedule, Task, View
from cl_lightning.data.augmentation.mixup import one_hot
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.factory.methods import build_method
from cl_lightning.methods.individual import PARTS, Individual
from cl_lightning.models.build import build_network
from cl_lightning.models.plain_vit import PlainViT
from cl_lightning.optim.optimiser import base_rate

SIZES: dict[str, Any] = {
    "image_size": 8, "channels": 1, "patch_size": 4, "dim": 16, "depth": 2, "num_heads": 4, "mlp_ratio": 2.0
}  # fmt: skip
MAIN = Phase("main", View.NEW, 1, Optimiser("sgd", 0.1), Schedule("constant"), PARTS)
BACKBONE = Phase("backbone", View.NEW, 1, Optimiser("sgd", 0.1), Schedule("constant"), PARTS)
TASKS = [
    Task(0, (0, 1, 2), tuple("abc"), torch.empty(0), torch.empty(0)),
    Task(1, (3, 4), tuple("de"), torch.empty(0), torch.empty(0)),
    Task(2, (5, 6, 7), tuple("fgh"), torch.empty(0), torch.empty(0)),
]
IMAGES = rng.normal(Key(0), torch.arange(6)[:, None], torch.arange(64)).view(6, 1, 8, 8)
NOTHING: Any = None  # it looks at no data between phases


def given() -> dict[str, Tensor]:
    with torch_seeded(Key(55)):
        return PlainViT(**SIZES).state_dict()


def individual(backbone: Phase | None = None, load: Any = None) -> Individual:
    structure = {"kind": "separate_network", "vit": {"kind": "plain_vit", **SIZES}, "classes": []}
    network: Any = build_network(structure, Key(1))
    return Individual(network, MAIN, backbone, load)


def terms_of(method: Individual, task: Task, phase: Phase = MAIN) -> dict[str, Tensor]:
    labels = task.num_old + torch.arange(6) % task.num_new
    outputs = method.outputs(phase, IMAGES, None)
    return method.losses(task, phase, Batch(IMAGES, labels, one_hot(labels, task.num_seen)), outputs)


def learn(method: Individual, task: Task, steps: int = 3) -> None:
    """Large steps, on labels that say nothing."""
    method.grow(task, Key(3), NOTHING)
    parts = method.network.parts()
    trained = [p for part in PARTS for p in parts[part]]
    for parameter in method.network.parameters():
        parameter.requires_grad_(any(parameter is p for p in trained))
    optimiser = torch.optim.Adam(trained, lr=0.01)
    method.train_mode(MAIN)
    for _ in range(steps):
        optimiser.zero_grad()
        terms_of(method, task)["classification"].backward()
        optimiser.step()
    method.network.eval()


def starts_from(method: Individual, weights: dict[str, Tensor]) -> bool:
    found = method.network.transformer.state_dict()
    return list(found) == list(weights) and all(torch.equal(found[key], weights[key]) for key in weights)


def copied(vit: Any) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in vit.state_dict().items()}


# ---- where a task starts -----------------------------------------------------------------------------------------


def test_every_task_starts_from_the_given_weights_which_are_read_anew() -> None:
    asked: list[int] = []

    def load() -> dict[str, Tensor]:
        asked.append(len(method.network.heads))
        return given()

    method = individual(load=load)
    for task in TASKS:
        method.grow(task, Key(3), NOTHING)
        assert starts_from(method, given())
        method.network.transformer.cls_token.data.add_(1)
    assert asked == [1, 2, 3]


@pytest.mark.parametrize("load", [None, given])
def test_later_tasks_start_from_what_the_first_one_has_trained(load: Any) -> None:
    method = individual(BACKBONE, load)
    learn(method, TASKS[0])
    trained = copied(method.network.transformer)
    assert not starts_from(individual(BACKBONE), trained)
    assert not any(torch.equal(trained[key], given()[key]) for key in trained if key.endswith("weight"))
    for task in TASKS[1:]:
        method.grow(task, Key(3), NOTHING)
        assert starts_from(method, trained)
        method.network.transformer.cls_token.data.add_(1)


def test_the_first_phase_is_backbone_only_where_it_trains_the_start() -> None:
    with_it, without = individual(BACKBONE), individual(load=given)
    assert with_it.plan(TASKS[0]) == [Grow(), Fit(BACKBONE), Evaluate()]
    for task in TASKS[1:]:
        assert with_it.plan(task) == without.plan(task) == [Grow(), Fit(MAIN), Evaluate()]
    assert without.plan(TASKS[0]) == [Grow(), Fit(MAIN), Evaluate()]


# ---- what a task does --------------------------------------------------------------------------------------------


def test_old_scores_stay_to_the_bit() -> None:
    method, kept = individual(BACKBONE), []
    for task in TASKS:
        learn(method, task)
        with torch.no_grad():
            scores = method.predict(IMAGES)["linear"]
        kept.append(scores[:, task.num_old :])
        assert torch.equal(scores, torch.cat(kept, dim=1))
    assert list(method.readouts()) == ["linear"]
    assert method.readouts()["linear"].by_network


def test_a_step_runs_and_trains_the_newest_transformer_and_head_alone() -> None:
    method = individual(BACKBONE)
    for task in TASKS[:2]:
        learn(method, task)
    method.grow(TASKS[2], Key(3), NOTHING)
    for parameter in method.network.parameters():
        parameter.requires_grad_(True)
        parameter.grad = None
    runs: list[str] = []
    for name, module in method.network.named_modules():
        module.register_forward_hook(lambda *_, name=name: runs.append(name))
    terms_of(method, TASKS[2])["classification"].backward()
    assert runs.count("transformers.2") == 1
    assert runs.count("heads.2") == 1
    assert all(name.startswith(("transformers.2", "heads.2")) for name in runs)
    for name, parameter in method.network.named_parameters():
        newest = name.startswith(("transformers.2.", "heads.2."))
        assert (parameter.grad is not None) == newest, name


def test_the_loss_is_of_the_task_s_own_classes() -> None:
    method = individual(BACKBONE)
    learn(method, TASKS[0])
    method.grow(TASKS[1], Key(3), NOTHING)
    labels = torch.arange(6) % 2
    alone = method.network.heads[1](method.network.transformer(IMAGES))
    expected = torch.nn.functional.cross_entropy(alone, labels)
    assert terms_of(method, TASKS[1])["classification"].item() == pytest.approx(expected.item(), rel=1e-5)


# ---- configuration -----------------------------------------------------------------------------------------------


def composed(*overrides: str) -> Any:
    return compose_typed(["run_dir=unused", "method=individual", *overrides])


def scenario() -> Scenario:
    rows, names = torch.arange(10), tuple(map(str, range(10)))
    source = ArraySource("digits", torch.zeros(10, 1, 8, 8, dtype=torch.uint8), rows, names)
    task = Task(0, tuple(range(10)), names, rows, rows)
    return Scenario("digits", source, source, (task,), names, tuple(range(10)), rows, rows, 8, 1, "test")


def phases(method: Any) -> list[Phase]:
    return [item.phase for task in TASKS for item in method.plan(task) if isinstance(item, Fit)]


@pytest.mark.slow
def test_from_a_file_as_configured(tmp_path: Path) -> None:
    file = tmp_path / "vit.safetensors"
    config = composed("recipe=meat", "lr_scale=1", "epochs_scale=1", f"method.backbone_file={file}")
    method = build_method(config, scenario(), Key(0))  # not read before the first task
    assert isinstance(method, Individual)
    sizes = {key: value for key, value in method.network.transformer.structure().items() if key != "kind"}
    with torch_seeded(Key(55)):
        weights = PlainViT(**sizes).state_dict()
    save_file(weights, file)
    for task in TASKS[:2]:
        method.grow(task, Key(0), NOTHING)
        assert starts_from(method, weights)
        method.network.transformer.cls_token.data.add_(1)
    first, *others = phases(method)
    assert others == [first, first]
    assert (first.name, first.view, first.epochs, first.trains) == ("main", View.NEW, 30, ("transformer", "head"))
    assert base_rate(first.optimiser, 256) == pytest.approx(2.5e-4), "5e-4 for 512 images"
    assert first.mixing is not None


@pytest.mark.slow
def test_the_first_task_trains_the_transformer_where_nothing_else_gives_it() -> None:
    assert composed().method.backbone_task is True
    assert composed("method.backbone_file=x.pth").method.backbone_task is False
    assert composed("model=timm", "model.pretrained=true").method.backbone_task is False
    assert composed("method.mixup.alpha=0").method.mixup is None
    method = build_method(composed("epochs_scale=1"), scenario(), Key(0))
    assert [(phase.name, phase.epochs) for phase in phases(method)] == [("backbone", 500), ("main", 30), ("main", 30)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("method.backbone_task=false", "type model.pretrained=true"),
        ("method.rehearsal=true", "rehearsal=true has no meaning for method=individual.*type method.rehearsal=false"),
        ("method.backbone_file=x.pth model=timm model.pretrained=true", "both give weights: leave out one"),
        ("method.mixup.alpha=-1", r"type method\.mixup\.alpha=N"),
        ("method.backbone.epochs=0", r"type method\.backbone\.epochs=N"),
        ("model=convit_tiny", "no class token that passes all blocks, for method=individual: type model=vit_tiny"),
    ],
)
def test_errors_are_one_line(override: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        composed(*override.split())
