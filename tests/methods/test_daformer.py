"""DAFormer: equal to the published implementation, DyTox's plan and losses, its own recipe, none of its code's defects.

The defects are those of the public code (commit a589034); a number in a comment, D4, names one of them. Others are
tested where they belong: D1, D2, D6, D10 and the sizes in ``models/test_dual_attention.py``.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from cl_lightning.config.compose import compose_typed
from cl_lightning.config.schema import Config
from cl_lightning.core import rng
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Batch, Evaluate, Fit, Grow, Herd, Optimiser, Phase, Schedule, Sharpness, Task, View
from cl_lightning.data.augmentation.mixup import one_hot
from cl_lightning.factory.data import build_scenario
from cl_lightning.factory.methods import build_method
from cl_lightning.losses.neighbours import neighbour_distillation
from cl_lightning.methods import dytox
from cl_lightning.methods.daformer import FINETUNING_PARTS, MAIN_PARTS, DAFormer, NeighbourTerm
from cl_lightning.methods.dytox import DyTox
from cl_lightning.models.build import build_network
from scripts.reference.check_vectors import compare
from scripts.reference.difference import Verdict
from scripts.reference.vectors import VectorFile
from tests.golden import GOLDEN
from tests.methods.options import dytox_options, neighbours

pytestmark = pytest.mark.slow

ADAMW = Optimiser("adamw", lr=1e-3, weight_decay=1e-6, decay_vectors=False)
MAIN = Phase("main", View.MERGED, 1, ADAMW, Schedule("constant"), MAIN_PARTS)
FINETUNING = Phase("finetuning", View.MEMORY, 1, ADAMW, Schedule("constant"), FINETUNING_PARTS)
NOTHING: Any = None  # DAFormer looks at no data between phases
ENCODER = {"kind": "convit", "image_size": 16, "patch_size": 4, "dim": 24, "num_heads": 4, "depth": 2}
LABELS = torch.tensor([4, 0, 3, 1, 4, 2])
IMAGES = rng.normal(Key(3), torch.arange(6 * 3 * 16 * 16)).view(6, 3, 16, 16)
BATCH = Batch(IMAGES, LABELS, one_hot(LABELS, 5, smoothing=0.1))


def task(index: int, *sizes: int) -> Task:
    first = sum(sizes[:index])
    classes = tuple(range(first, first + sizes[index]))
    return Task(index, classes, tuple(map(str, classes)), torch.empty(0), torch.empty(0))


def method(*sizes: int, expansion: bool = True, neighbours: NeighbourTerm | None = None, **options: Any) -> DAFormer:
    """DAFormer that has grown by ``sizes`` and moved away from its teacher."""
    structure = {
        "kind": "task_network", "encoder": ENCODER, "decoder": {"kind": "dual_attention", "expansion": expansion},
        "diverge": True, "independent_heads": True, "classes": [],
    }  # fmt: skip
    network: Any = build_network(structure, Key(0))
    made = DAFormer(network, MAIN, FINETUNING, dytox_options(**options), neighbours)
    for index in range(len(sizes)):
        made.grow(task(index, *sizes), Key(index), NOTHING)
    for index, parameter in enumerate(made.network.parameters()):
        noise = rng.normal(Key(9).fold(index), torch.arange(parameter.numel()))
        parameter.data += 0.1 * noise.view_as(parameter)
    return made


# ---- against the published implementation ----------------------------------------------------------------------------


def test_published_numbers() -> None:
    comparison = compare(VectorFile(GOLDEN / "daformer_small.npz"))
    assert comparison.title == "DAFormer"
    assert comparison.passed, [row for row in comparison.rows if row.verdict.failed]
    assert comparison.counts[Verdict.EQUAL] == 202
    assert comparison.counts[Verdict.UNCHECKED] == 0
    compared = {row.entry for row in comparison.rows if row.verdict is Verdict.EQUAL}
    for name in ("embeddings", "logits", "divergence_logits", "loss/total", "grads/key_banks.1.weight"):
        assert f"task1/{name}" in compared
    assert {"task1/new_key_bank_is_zero", "task2/new_key_bank_is_zero"} <= compared


# ---- losses ----------------------------------------------------------------------------------------------------------


def test_losses_are_those_of_dytox() -> None:
    ours = method(3, 2)
    same = DyTox(ours.network, MAIN, FINETUNING, dytox_options())
    same.teacher = ours.teacher
    for phase in (MAIN, FINETUNING):
        outputs = ours.outputs(phase, IMAGES, None)
        terms = ours.losses(task(1, 3, 2), phase, BATCH, outputs)
        assert terms == same.losses(task(1, 3, 2), phase, BATCH, outputs)
        assert set(terms) == ({"classification", "distillation", "divergence"} if phase is MAIN else {"classification"})


@pytest.mark.parametrize("expansion", [True, False])
def test_neighbours_are_a_term_beside_the_others(expansion: bool) -> None:
    """Weighted by the share of old classes; of the embeddings of old tasks alone, or the one there is."""
    loss = neighbours("distance", k=3)
    with_them = method(3, 2, expansion=expansion, neighbours=NeighbourTerm(loss, weight=0.5))
    without = method(3, 2, expansion=expansion)
    outputs = with_them.outputs(MAIN, IMAGES, None)
    terms = with_them.losses(task(1, 3, 2), MAIN, BATCH, outputs)
    others = without.losses(task(1, 3, 2), MAIN, BATCH, without.outputs(MAIN, IMAGES, None))
    assert with_them.teacher is not None
    moved = neighbour_distillation(
        outputs.features.embeddings[:, :1], with_them.teacher(IMAGES).embeddings, loss
    ).item()
    assert moved > 1e-3
    assert terms.pop("neighbours").item() == pytest.approx(0.5 * 3 / 5 * moved, rel=1e-5)
    assert {n: t.item() for n, t in terms.items()} == pytest.approx({n: t.item() for n, t in others.items()})
    assert with_them.couples_batch
    assert not without.couples_batch


def test_neighbours_need_a_teacher_and_are_of_the_main_phase_alone() -> None:
    term = NeighbourTerm(neighbours("similarity"), weight=1.0)
    first = method(3, neighbours=term)
    assert set(first.losses(task(0, 3), MAIN, Batch(IMAGES, LABELS % 3, one_hot(LABELS % 3, 3)),
                            first.outputs(MAIN, IMAGES, None))) == {"classification"}  # fmt: skip
    later = method(3, 2, neighbours=term)
    terms = later.losses(task(1, 3, 2), FINETUNING, BATCH, later.outputs(FINETUNING, IMAGES, None))
    assert set(terms) == {"classification"}


# ---- plan, growth and what is frozen ---------------------------------------------------------------------------------


def test_plan_is_dytoxs() -> None:
    assert method().plan(task(0, 3)) == [Grow(), Fit(MAIN), Herd(), Evaluate()]
    assert method(3).plan(task(1, 3, 2)) == [Grow(), Fit(MAIN), Herd(), Fit(FINETUNING), Evaluate()]


def test_parts_of_the_phases_are_all_that_there_are() -> None:
    parts = set(method(3, 2).network.parts())
    assert parts - set(MAIN_PARTS) == {"old_banks", "old_heads"}
    assert parts - set(FINETUNING_PARTS) == {"encoder", "divergence"}


def test_every_trained_parameter_has_a_gradient() -> None:
    """The public code builds an output projection and never calls it (D4)."""
    for expansion in (True, False):
        made = method(3, 2, expansion=expansion)
        trained = [p for name in MAIN_PARTS for p in made.network.parts()[name]]
        sum(made.losses(task(1, 3, 2), MAIN, BATCH, made.outputs(MAIN, IMAGES, None)).values()).backward()  # type: ignore[union-attr]
        assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in trained)


def test_freezing_leaves_old_embeddings_to_distillation() -> None:
    """A fact of the design (D15): what is shared moves, so a step on the newest task moves old embeddings too."""
    made = method(3, 2)
    frozen = [p.detach().clone() for name in ("old_banks", "old_heads") for p in made.network.parts()[name]]
    before = made.network(IMAGES).embeddings[:, 0].detach()
    trained = [p for name in MAIN_PARTS for p in made.network.parts()[name]]
    optimiser = torch.optim.SGD(trained, lr=0.1)
    sum(made.losses(task(1, 3, 2), MAIN, BATCH, made.outputs(MAIN, IMAGES, None)).values()).backward()  # type: ignore[union-attr]
    optimiser.step()
    after = [p for name in ("old_banks", "old_heads") for p in made.network.parts()[name]]
    assert all(torch.equal(a, b) for a, b in zip(after, frozen, strict=True))
    assert (made.network(IMAGES).embeddings[:, 0] - before).abs().max() > 1e-4


def test_herding_sees_all_task_embeddings() -> None:
    made = method(3, 2)
    assert made.embed(IMAGES).shape == (6, 2 * 24)
    assert method(3, 2, expansion=False).embed(IMAGES).shape == (6, 24)


# ---- from a configuration --------------------------------------------------------------------------------------------


def composed(*overrides: str) -> Config:
    return compose_typed(["run_dir=nowhere", *overrides])


def configured(*overrides: str) -> DAFormer:
    config = composed(*overrides)
    made = build_method(config, build_scenario(config), Key(0))
    assert isinstance(made, DAFormer)
    return made


@pytest.mark.parametrize(("name", "banks"), [("daformer_m", 2), ("daformer_s", 1)])
def test_the_published_recipe(name: str, banks: int) -> None:
    """DyTox++ in one process: MixUp in both phases, adaptive SAM from the second task on."""
    config = composed(f"method={name}", "data=cifar100_10steps")
    assert (config.recipe.name, config.batch.replicas) == ("daformer", 1)
    assert config.recipe.repeated_augmentation
    made = configured(f"method={name}")
    made.grow(task(0, 2), Key(0), NOTHING)
    made.grow(task(1, 2, 2), Key(1), NOTHING)
    assert len(made.network.decoder.banks) == banks  # type: ignore[arg-type]
    main, finetuning = (item.phase for item in made.plan(task(1, 2, 2)) if isinstance(item, Fit))
    assert main.mixing is not None
    assert (main.mixing.alpha, main.mixing.smoothing) == (0.8, 0.1)
    assert finetuning.mixing == main.mixing
    assert main.sharpness == Sharpness(rho=3.0, adaptive=True)
    assert finetuning.sharpness is None
    first = next(item.phase for item in made.plan(task(0, 2)) if isinstance(item, Fit))
    assert first.sharpness is None


def test_published_learning_rate_and_schedule() -> None:
    """One process of 128 images: 1.25e-4; the floor is not scaled."""
    config = composed("method=daformer_m", "data=cifar100_10steps")
    main, finetuning = config.method.main, config.method.finetuning  # type: ignore[attr-defined]
    assert config.recipe.lr_follows_batch
    batch = (config.batch.size or 0) * (config.batch.replicas or 0)
    assert main.lr * batch / main.reference_batch == pytest.approx(1.25e-4)
    assert finetuning.lr * batch / finetuning.reference_batch == pytest.approx(1.25e-5)
    assert (main.epochs, finetuning.epochs, main.min_lr, main.warmup_epochs) == (500, 20, 1e-5, 5)


@pytest.mark.parametrize("variant", ["s", "m"])
@pytest.mark.parametrize(
    ("like", "recipe"),
    [("dytox", "dytox"), pytest.param("dytox_plus", "dytox_plus", marks=pytest.mark.slow)],
)
def test_the_decoder_under_dytoxs_recipes(
    variant: str, like: str, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Method and recipe are independent: everything but the network is what DyTox's own configuration says."""
    ours = composed(f"experiment=daformer_{variant}_as_{like}", "data=cifar100_10steps")
    theirs = composed(f"method={recipe}", "data=cifar100_10steps")
    assert ours.method.name == f"daformer_{variant}"
    assert ours.recipe == theirs.recipe
    assert ours.batch == theirs.batch
    for name in ("main", "finetuning", "mixup", "sam", "distillation", "temperature", "divergence_weight"):
        assert getattr(ours.method, name) == getattr(theirs.method, name), name
    options: list[Any] = []
    monkeypatch.setattr(dytox, "plan_task", lambda *given: [options.append(given[-1])][:0])
    for choice in (f"experiment=daformer_{variant}_as_{like}", f"method={recipe}"):
        config = composed(choice, "recipe=erratum_2022_06")  # on digits, which are there
        scenario = build_scenario(config)
        build_method(config, scenario, Key(0)).plan(scenario.tasks[0])
    assert options[0] == options[1]


def test_imagenets_configuration_runs() -> None:
    """The published one has an option that nobody knows (D1) and 64 keys for 196 patches (D2)."""
    config = composed("method=daformer_m", "data=imagenet100_10steps", "data.root=nowhere")
    assert (config.model.name, config.recipe.name) == ("convit_imagenet", "daformer")
    assert (config.data.image_size, config.model.patch_size) == (224, 16)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_options_that_are_ignored_there_act_here() -> None:
    """A joint head and another temperature: accepted and ignored (D13), or a name that is not defined (D14)."""
    joint = configured("method=daformer_m", "method.independent_heads=false")
    assert joint.network.structure()["classifier"] == {"kind": "joint"}
    terms = []
    for temperature in (1.0, 2.0):
        made = method(3, 2, temperature=temperature)
        terms.append(made.losses(task(1, 3, 2), MAIN, BATCH, made.outputs(MAIN, IMAGES, None))["distillation"].item())
    assert math.isfinite(terms[1])
    assert terms[0] != pytest.approx(terms[1])


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["method.neighbours.form=near"], "method.neighbours.form=near is not a choice"),
        (["method.neighbours.k=0"], "method.neighbours.k=0 is out of range"),
        (["method.neighbours.temperature=0"], "method.neighbours.temperature=0.0 is out of range"),
        (["method.neighbours.form=order", "method.distillation=false"], "needs a teacher"),
        (["model=resnet32"], "model=resnet32 has no patch tokens for method=daformer_m"),
    ],
)
def test_wrong_options_are_reported(overrides: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        composed("method=daformer_m", *overrides)


def test_parameters_that_are_reported_are_those_of_the_network_at_work() -> None:
    """There, a bare backbone with a hundred classes and one bank is counted (D11)."""
    made = configured("method=daformer_m")
    made.grow(task(0, 2), Key(0), NOTHING)
    first = sum(p.numel() for p in made.network.parameters())
    made.grow(task(1, 2, 2), Key(1), NOTHING)
    grown = sum(p.numel() for p in made.network.parameters()) - first
    divergence = sum(p.numel() for p in made.network.parts()["divergence"])
    dim, keys, width = 64, 16, 16
    assert grown - divergence == keys * (width + 1) + 2 * dim + 2 * dim + 2
