"""MEAT's own promises: nothing that was learnt changes, tasks are inferred as said, weights come from where they
should.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from cl_lightning.config.compose import compose_typed
from cl_lightning.core import rng
from cl_lightning.core.errors import InvalidSettingError, UserError
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.core.types import Act, Batch, DataAccess, Evaluate, Fit, Grow, Optimiser, Phase, Schedule, Task, View
from cl_lightning.data.augmentation.mixup import one_hot
from cl_lightning.data.scenarios.scenario import Scenario
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.deploy.scorer import Scorer
from cl_lightning.factory.methods import build_method
from cl_lightning.losses.classification import own_cross_entropy
from cl_lightning.methods.icarl import CLASS_MEANS
from cl_lightning.methods.meat import BACKBONE_PARTS, MEAT, PACK, main_parts
from cl_lightning.models.build import build_network
from cl_lightning.models.plain_vit import PlainViT
from cl_lightning.models.vit_weights import file_weights
from cl_lightning.optim.optimiser import base_rate
from tests.methods.options import meat_options

SIZES: dict[str, Any] = {
    "image_size": 8, "channels": 1, "patch_size": 4, "dim": 16, "depth": 2, "num_heads": 4, "mlp_ratio": 2.0
}  # fmt: skip
MAIN = Phase(
    "main", View.NEW, 1, Optimiser("sgd", 0.1), Schedule("constant"), main_parts(token_masks=True, ffn_masks=True)
)
BACKBONE = Phase("backbone", View.NEW, 1, Optimiser("sgd", 0.1), Schedule("constant"), BACKBONE_PARTS)
TASKS = [
    Task(0, (0, 1, 2), tuple("abc"), torch.empty(0), torch.empty(0)),
    Task(1, (3, 4), tuple("de"), torch.empty(0), torch.empty(0)),
    Task(2, (5, 6, 7), tuple("fgh"), torch.empty(0), torch.empty(0)),
]
IMAGES = rng.normal(Key(0), torch.arange(6)[:, None], torch.arange(64)).view(6, 1, 8, 8)


class Looks:
    """Images of a class differ from each other; classes lie far apart."""

    flips = False

    def __init__(self) -> None:
        self.exemplars: dict[int, Tensor] = {}

    def rows_of(self, label: int) -> Tensor:
        return torch.arange(4) + 10 * label

    @torch.no_grad()
    def embed(self, rows: Tensor, embed: Any, *, flip: bool = False) -> Tensor:
        return embed(of_class(rows // 10, rows))


def of_class(label: Tensor, seed: Tensor) -> Tensor:
    centre = rng.normal(Key(7), label[:, None], torch.arange(64))
    return (centre + 0.1 * rng.normal(Key(8), seed[:, None], torch.arange(64))).view(-1, 1, 8, 8)


LOOK: DataAccess = Looks()


def meat(backbone: Phase | None = None, load: Callable[[], dict[str, Tensor]] | None = None, **options: Any) -> MEAT:
    structure = {
        "kind": "masked_network", "vit": {"kind": "plain_vit", **SIZES}, "token_mask_blocks": [0, 1],
        "plain_first": backbone is not None, "classes": [],
    }  # fmt: skip
    network: Any = build_network(structure, Key(1))
    return MEAT(network, MAIN, backbone, meat_options(**options), load)


def learn(method: MEAT, task: Task, steps: int = 3) -> None:
    """Large steps on random labels."""
    for item in method.plan(task):
        match item:
            case Grow():
                method.grow(task, Key(3), LOOK)
            case Fit(phase):
                fit(method, task, phase, steps)
            case Act(name):
                method.act(name, task, LOOK)
    method.network.eval()


def fit(method: MEAT, task: Task, phase: Phase, steps: int) -> None:
    parts = method.network.parts()
    trained = [p for part in phase.trains for p in parts[part]]
    for parameter in method.network.parameters():
        parameter.requires_grad_(any(parameter is p for p in trained))
    rates = {"token_masks": 2.0, "ffn_masks": 2.0}
    optimiser = torch.optim.Adam([{"params": parts[part], "lr": rates.get(part, 0.01)} for part in phase.trains])
    labels = task.num_old + torch.arange(6) % task.num_new
    method.train_mode(phase)
    for step in range(steps):
        noise = method.network.noise(
            Key(step), torch.arange(6), torch.zeros(6, dtype=torch.int64), frozenset({"backbone"})
        )
        outputs = method.outputs(phase, IMAGES, noise)
        optimiser.zero_grad()
        terms = method.losses(task, phase, Batch(IMAGES, labels, one_hot(labels, task.num_seen)), outputs)
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step()


def test_the_plan() -> None:
    means, pack = Act(CLASS_MEANS), Act(PACK)
    assert meat().plan(TASKS[0]) == [Grow(), Fit(MAIN), pack, means, Evaluate()]
    assert meat(readouts=("linear",)).plan(TASKS[1]) == [Grow(), Fit(MAIN), pack, Evaluate()]
    first, second = (meat(BACKBONE).plan(task) for task in TASKS[:2])
    assert (first[1], second[1]) == (Fit(BACKBONE), Fit(MAIN))


@pytest.mark.parametrize("backbone", [None, BACKBONE])
def test_what_a_task_has_learnt_never_changes(backbone: Phase | None) -> None:
    method, kept = meat(backbone), []
    for task in TASKS:
        learn(method, task, steps=15)
        kept.append(method.predict(IMAGES)["linear"][:, task.num_old :])
        assert torch.equal(method.predict(IMAGES)["linear"], torch.cat(kept, dim=1))
    masked = method.network.through(IMAGES, 2)
    assert (masked - method.network.plain(IMAGES)).abs().max() > 0.01, "masks have moved"
    assert len(list(method.network.kept[0].buffers())) == (0 if backbone else 2)


def test_losses_are_of_the_task_s_own_classes_and_of_its_tokens() -> None:
    method = meat()
    for task in TASKS[:2]:
        learn(method, task)
    method.grow(TASKS[2], Key(3), LOOK)
    labels = torch.tensor([5, 6, 7, 5, 6, 7])
    outputs = method.outputs(MAIN, IMAGES, None)
    terms = method.losses(TASKS[2], MAIN, Batch(IMAGES, labels, one_hot(labels, 8)), outputs)
    assert (outputs.logits[:, :5] == -torch.inf).all()
    expected = torch.nn.functional.cross_entropy(outputs.logits[:, 5:], labels - 5)
    assert terms["classification"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert terms["drop_control"].item() == pytest.approx(2 * 0.1**2, rel=1e-4), "all is kept where 0.9 should be"


@pytest.mark.parametrize("readout", ["entropy", "class_mean"])
def test_the_inferred_task_s_classes_win(readout: str) -> None:
    method, offsets = meat(BACKBONE), [0, 3, 5, 8]
    for task in TASKS:
        learn(method, task, steps=5)
    images = of_class(torch.arange(8), torch.arange(8) + 500)
    scores = method.predict(images)
    features, means = method.network.plain(images).detach(), method.class_means
    answered = set()
    for feature, linear, found in zip(features, scores["linear"], scores[readout], strict=True):
        parts = [linear[a:b].log_softmax(0) for a, b in pairwise(offsets)]
        if readout == "entropy":
            unsure = [-(p.exp() * p).sum().item() / torch.tensor(len(p)).log().item() for p in parts]
            task = unsure.index(min(unsure))
        else:
            away = [(feature / feature.norm() - mean).square().sum().item() for mean in means]
            task = next(t for t in range(3) if offsets[t] <= away.index(min(away)) < offsets[t + 1])
        answered.add(task)
        own = slice(offsets[task], offsets[task + 1])
        torch.testing.assert_close(found[own], parts[task])
        others = torch.cat([found[: own.start], found[own.stop :]])
        assert others.max() < found[own].min()
        torch.testing.assert_close(found.softmax(0)[own], parts[task].exp())
        for t, part in enumerate(parts):
            assert found[offsets[t] : offsets[t + 1]].argsort().tolist() == part.argsort().tolist()
    assert len(answered) > 1
    assert len(means) == 8
    torch.testing.assert_close(means.norm(dim=1), torch.ones(8))


def test_a_task_is_inferred_once_it_has_been_packed() -> None:
    method = meat()
    learn(method, TASKS[0])
    method.grow(TASKS[1], Key(1), LOOK)
    for name in ("entropy", "class_mean"):
        assert (method.predict(IMAGES)[name].argmax(dim=1) < 3).all()


@pytest.mark.parametrize("before", [0, 7])
def test_smoothing_is_among_the_task_s_own_classes(before: int) -> None:
    """However many came before."""
    targets = one_hot(before + torch.tensor([0, 1, 1]), before + 3, smoothing=0.1)
    logits = torch.tensor([[2.0, 1.0, 0.5], [0.1, 0.3, -1.0], [1.0, 2.0, 3.0]])
    loss = own_cross_entropy(torch.cat([torch.zeros(3, before), logits], dim=1), targets, slice(before, before + 3))
    expected = torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 1]), label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)


def test_masks_that_have_not_moved_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    method = meat(readouts=("linear",))
    method.grow(TASKS[0], Key(0), LOOK)
    with caplog.at_level(logging.INFO):
        method.act(PACK, TASKS[0], LOOK)
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"] * 2
    assert "type a larger method.token_rate" in caplog.messages[1]
    caplog.clear()
    method.grow(TASKS[1], Key(0), LOOK)
    assert method.network.ffn_logits is not None
    with torch.no_grad(), caplog.at_level(logging.INFO):
        method.network.ffn_logits[0][:512] = -1
        method.act(PACK, TASKS[1], LOOK)
    assert "drop 25.0000 % of the weights" in caplog.text


def test_state_of_another_method_is_refused() -> None:
    with pytest.raises(ValueError, match="resume a run of method=meat"):
        meat().load_extra_state({"class_means": torch.zeros(0, 16)})


# ---- weights from elsewhere --------------------------------------------------------------------------------------


def trained() -> dict[str, Tensor]:
    with torch_seeded(Key(55)):
        weights = PlainViT(**SIZES).state_dict()
    return {**weights, "head.weight": torch.zeros(10, 16), "head.bias": torch.zeros(10)}


def written(file: Path) -> Path:
    if file.suffix == ".safetensors":
        save_file(trained(), file)
    else:
        torch.save({"model": trained()}, file)
    return file


@pytest.mark.parametrize("name", ["vit.safetensors", "vit.pth"])
def test_a_file_gives_the_transformer(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    method = meat(load=lambda: file_weights(file, method.network.vit))  # not read before the first task
    written(file)
    method.grow(TASKS[0], Key(0), LOOK)
    for key, value in method.network.vit.state_dict().items():
        assert torch.equal(value, trained()[key])


class Harmful:
    def __reduce__(self) -> Any:
        return print, ("harm",)


def test_files_that_do_not_fit_are_refused_in_a_line(tmp_path: Path) -> None:
    vit = PlainViT(**{**SIZES, "image_size": 16})
    with pytest.raises(InvalidSettingError, match=r"is no file: pass path=FILE"):
        file_weights(tmp_path / "none.pth", vit)
    with pytest.raises(ValueError, match=r"pos_embed is \[1, 5, 16\] there and \[1, 17, 16\] here \(1 differ\)"):
        file_weights(written(tmp_path / "vit.pth"), vit)
    torch.save({"model": Harmful()}, tmp_path / "harm.pth")
    with pytest.raises(ValueError, match="cannot be read"):
        file_weights(tmp_path / "harm.pth", vit)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no weights by name"):
        file_weights(tmp_path / "list.pth", vit)


@pytest.mark.slow
def test_all_tasks_are_exported_as_one_graph_and_inferred_tasks_are_not() -> None:
    method = meat(BACKBONE)
    for task in TASKS[:2]:
        learn(method, task, steps=8)
    readouts = method.readouts()
    assert [name for name, readout in readouts.items() if readout.by_network] == ["linear"]
    with torch.no_grad():
        program = torch.export.export(
            Scorer(method.network, readouts["linear"]),
            (IMAGES[:2],),
            dynamic_shapes=({0: torch.export.Dim("b", min=1)},),
        )
        torch.testing.assert_close(program.module()(IMAGES), method.predict(IMAGES)["linear"], atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["meat", "individual"])
def test_a_file_that_is_not_there_is_reported_in_one_line_when_the_run_has_begun(method: str, tmp_path: Path) -> None:
    config = composed(f"method={method}", f"method.backbone_file={tmp_path}/none.pth")
    with pytest.raises(UserError, match=r"none\.pth is no file: type method\.backbone_file="):
        build_method(config, scenario(), Key(0)).grow(TASKS[0], Key(0), LOOK)


# ---- configuration -----------------------------------------------------------------------------------------------


def composed(*overrides: str) -> Any:
    return compose_typed(["run_dir=unused", "method=meat", *overrides])


def scenario() -> Scenario:
    rows, names = torch.arange(10), tuple(map(str, range(10)))
    source = ArraySource("digits", torch.zeros(10, 1, 8, 8, dtype=torch.uint8), rows, names)
    task = Task(0, tuple(range(10)), names, rows, rows)
    return Scenario("digits", source, source, (task,), names, tuple(range(10)), rows, rows, 8, 1, "test")


@pytest.mark.slow
def test_published_rates(tmp_path: Path) -> None:
    """256 images: 1.25e-4 for the head, 0.025 for each of two logits, 0.05 for one that stands for both."""
    config = composed("recipe=meat", "lr_scale=1", f"method.backbone_file={tmp_path}/vit.pth")
    method = build_method(config, scenario(), Key(0))
    assert isinstance(method, MEAT)
    _, fit, *_ = method.plan(TASKS[0])
    assert isinstance(fit, Fit)
    base = base_rate(fit.phase.optimiser, 256)
    assert base == pytest.approx(1.25e-4)
    rates = {part: base * fit.phase.rates.get(part, 1) for part in fit.phase.trains}
    assert rates == {"token_masks": pytest.approx(0.05), "ffn_masks": pytest.approx(0.05), "head": base}
    assert (fit.phase.optimiser.weight_decay, fit.phase.optimiser.decay_vectors) == (0.05, False)
    method.network.grow(2, Key(0))
    masks = [*method.network.parts()["token_masks"], *method.network.parts()["ffn_masks"]]
    assert {p.ndim for p in masks} == {1}, "vectors are not decayed"
    assert method.couples_batch


@pytest.mark.slow
def test_the_first_task_trains_the_transformer_where_nothing_else_gives_it() -> None:
    assert composed().method.backbone_task is True
    assert composed("method.backbone_file=x.pth").method.backbone_task is False
    assert composed("model=timm", "model.pretrained=true").method.backbone_task is False
    assert composed("model=timm", "model.pretrained=true", "method.backbone_task=true").method.backbone_task is True
    assert composed("method.mixup.alpha=0").method.mixup is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("method.backbone_task=false", "type model.pretrained=true"),
        ("method.rehearsal=true", "type method.rehearsal=false"),
        ("method.readouts=[]", r"type 'method.readouts=\[linear,entropy,class_mean\]'"),
        ("method.token_mask_blocks=[2,1]", "type method.token_mask_blocks=all"),
        ("method=piggyback method.token_mask_blocks=[1]", "type method.token_masks=true"),
        ("method.keep=1.5", r"type method.keep=X with X at least 0 and at most 1"),
        ("model=convit_tiny", "type model=vit_tiny"),
    ],
)
def test_errors_are_one_line(override: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        composed(*override.split())


@pytest.mark.slow
def test_a_block_that_is_not_there_is_reported() -> None:
    with pytest.raises(UserError, match="type numbers from 0 to 2, or all"):
        build_method(composed("method.token_mask_blocks=[1,3]"), scenario(), Key(0))
