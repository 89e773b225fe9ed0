"""DyTox: equal to the published implementation (losses, gradients, steps), to slow loops, and to its plan."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.config.compose import compose_typed
from cl_lightning.core import rng
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.core.types import Batch, Evaluate, Fit, Grow, Herd, Optimiser, Phase, Schedule, Sharpness, Task, View
from cl_lightning.data.augmentation.mixup import one_hot
from cl_lightning.factory.data import build_scenario
from cl_lightning.factory.methods import build_method
from cl_lightning.methods.dytox import FINETUNING_PARTS, MAIN_PARTS, DyTox
from cl_lightning.models.convit import ConViT
from cl_lightning.models.task_attention import TaskAttentionBlock
from cl_lightning.models.task_network import TaskNetwork
from cl_lightning.optim.sam import ascend, descend
from cl_lightning.published.weights import GOLDEN as PUBLISHED_NAMES
from scripts.reference.model_vectors import NO_GRADIENT, Rebuilt, total
from scripts.reference.vectors import VectorFile
from tests.golden import GOLDEN
from tests.methods.options import dytox_options

ADAMW = Optimiser("adamw", lr=1e-3, weight_decay=1e-6, decay_vectors=False)
MAIN = Phase("main", View.MERGED, 1, ADAMW, Schedule("constant"), MAIN_PARTS)
FINETUNING = Phase("finetuning", View.MEMORY, 1, ADAMW, Schedule("constant"), FINETUNING_PARTS)
SHARP = dataclasses.replace(MAIN, sharpness=Sharpness(rho=3.0))
NOTHING: Any = None  # DyTox looks at no data between phases


def task(index: int, *sizes: int) -> Task:
    first = sum(sizes[:index])
    classes = tuple(range(first, first + sizes[index]))
    return Task(index, classes, tuple(map(str, classes)), torch.empty(0), torch.empty(0))


def method(*sizes: int, main: Phase = MAIN, finetuning: Phase | None = FINETUNING, **options: Any) -> DyTox:
    """DyTox that has grown by ``sizes``."""
    with torch_seeded(Key(0)):
        encoder = ConViT(image_size=16, patch_size=4, dim=24, num_heads=4, depth=2)
        network = TaskNetwork(encoder, TaskAttentionBlock(24, 4))
    dytox = DyTox(network, main, finetuning, dytox_options(**options))
    for index in range(len(sizes)):
        dytox.grow(task(index, *sizes), Key(index), NOTHING)
    return dytox


# ---- against the published implementation ------------------------------------------------------------------------


class Published(Rebuilt):
    """A task of the golden file, set up for training in its main phase."""

    def __init__(self, golden: VectorFile, index: int) -> None:
        super().__init__(golden, index)
        self.golden, self.prefix = golden, f"task{index}/"

    def expected(self, folder: str) -> dict[str, Tensor]:
        """Tensors of a folder of the golden file, by our names of the parameters."""
        entries = self.golden.folder(f"{self.prefix}{folder}/")
        return {PUBLISHED_NAMES.ours(name) or name: value for name, value in entries.items()}

    def expect_parameters(self, folder: str, atol: float, without: str = "nothing") -> None:
        expected, ours = self.expected(folder), dict(self.network.named_parameters())
        assert set(expected) == set(ours)
        for name in (name for name in ours if not name.endswith(without)):
            torch.testing.assert_close(ours[name].detach(), expected[name], atol=atol, rtol=0, msg=name)


@pytest.fixture(scope="module")
def golden() -> VectorFile:
    return VectorFile(GOLDEN / "dytox_small.npz")


@pytest.fixture(params=[0, 1, 2])
def published(golden: VectorFile, request: pytest.FixtureRequest) -> Published:
    return Published(golden, request.param)


def test_published_losses(published: Published) -> None:
    terms = {name: term.item() for name, term in published.terms().items()}
    expected = {name: value.item() for name, value in published.expected("loss").items()}
    assert sum(terms.values()) == pytest.approx(expected.pop("total"), abs=1e-6)
    assert terms == pytest.approx(expected, abs=1e-6)


def test_published_gradients(published: Published) -> None:
    published.backward()
    expected = published.expected("grads")
    assert set(expected) == {name for name, _ in published.network.named_parameters()}
    for name, parameter in published.network.named_parameters():
        if expected[name].numel() == 0:
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        bound = 1e-6 + 1e-4 * expected[name].abs().max().item()
        torch.testing.assert_close(parameter.grad, expected[name], atol=bound, rtol=0, msg=name)


def test_one_bias_has_no_true_gradient(published: Published) -> None:
    published.backward()
    biases = [p for name, p in published.network.named_parameters() if name.endswith(NO_GRADIENT)]
    assert len(biases) == published.golden.meta["num_sab"]
    assert all(bias.grad is not None and bias.grad.abs().max() < 1e-7 for bias in biases)


def test_published_mixup(published: Published) -> None:
    mixed = published.mixed()
    torch.testing.assert_close(mixed.targets, published.golden[f"{published.prefix}mixup/targets"], atol=1e-6, rtol=0)
    terms = published.terms(mixed)
    expected = {name: value.item() for name, value in published.expected("mixup/loss").items()}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, abs=1e-6)


def test_published_steps(published: Published) -> None:
    optimiser = published.adamw()
    losses = []
    for _ in range(published.golden.meta["steps"]):
        losses.append(published.backward())
        optimiser.step()
    expected = published.golden[f"{published.prefix}adamw/losses"].tolist()
    assert losses == pytest.approx(expected, abs=1e-6)
    published.expect_parameters("adamw/params", atol=5e-5, without=NO_GRADIENT)


def test_published_sharpness_aware_step(published: Published) -> None:
    optimiser = published.adamw()
    losses = [published.backward()]
    moved = ascend(published.trained, rho=published.golden.meta["sam_rho"], adaptive=True)
    published.expect_parameters("asam/perturbed", atol=1e-5)
    losses.append(published.backward())
    descend(moved)
    optimiser.step()
    assert losses == pytest.approx(published.golden[f"{published.prefix}asam/losses"].tolist(), rel=1e-5)
    published.expect_parameters("asam/params", atol=5e-5, without=NO_GRADIENT)


# ---- losses ------------------------------------------------------------------------------------------------------

LABELS = [4, 0, 3, 1, 4, 2]
IMAGES = rng.normal(Key(3), torch.arange(6 * 3 * 16 * 16)).view(6, 3, 16, 16)
BATCH = Batch(IMAGES, torch.tensor(LABELS), one_hot(torch.tensor(LABELS), 5, smoothing=0.1))


def sigmoid_cross_entropy(scores: list[list[float]], targets: list[list[float]]) -> float:
    entries = [(z, y) for row in zip(scores, targets, strict=True) for z, y in zip(*row, strict=True)]
    parts = [-y * math.log(1 / (1 + math.exp(-z))) - (1 - y) * math.log(1 / (1 + math.exp(z))) for z, y in entries]
    return sum(parts) / len(parts)


def softmax_cross_entropy(scores: list[list[float]], targets: list[list[float]]) -> float:
    rows = [(softmax(row), wanted) for row, wanted in zip(scores, targets, strict=True)]
    return -sum(y * math.log(p) for row, wanted in rows for p, y in zip(row, wanted, strict=True)) / len(rows)


def softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]


def moved_student(**options: Any) -> DyTox:
    """Grown by 3 and 2 classes, and no longer what its teacher was."""
    dytox = method(3, 2, **options)
    for index, parameter in enumerate(dytox.network.parameters()):
        noise = rng.normal(Key(9).fold(index), torch.arange(parameter.numel()))
        parameter.data += 0.2 * noise.view_as(parameter)
    return dytox


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("softmax_too", [False, True])
def test_losses_against_a_loop(temperature: float, softmax_too: bool) -> None:
    dytox = moved_student(temperature=temperature, divergence_weight=0.25, softmax=softmax_too)
    cross_entropy = softmax_cross_entropy if softmax_too else sigmoid_cross_entropy
    outputs = dytox.outputs(MAIN, IMAGES, None)
    assert dytox.teacher is not None
    assert outputs.auxiliary is not None
    old, logits, targets = (
        t.tolist() for t in (dytox.teacher.logits(dytox.teacher(IMAGES)), outputs.logits, BATCH.targets)
    )
    distilled = 0.0
    for teacher, student in zip(old, logits, strict=True):
        q, p = (softmax([z / temperature for z in scores]) for scores in (teacher, student[:3]))
        distilled += temperature**2 * sum(b * (math.log(b) - math.log(a)) for a, b in zip(p, q, strict=True)) / 18
    grouped = [[sum(row[:3]), row[3], row[4]] for row in targets]
    expected = {
        "classification": 0.4 * cross_entropy(logits, targets),
        "distillation": 0.6 * distilled,
        "divergence": 0.25 * cross_entropy(outputs.auxiliary.tolist(), grouped),
    }
    terms = dytox.losses(task(1, 3, 2), MAIN, BATCH, outputs)
    assert expected["distillation"] > 1e-3
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-5)


def test_distillation_without_the_mean_over_classes_is_as_many_times_larger() -> None:
    terms = []
    for mean in (True, False):
        dytox = moved_student(distillation_class_mean=mean)
        terms.append(dytox.losses(task(1, 3, 2), MAIN, BATCH, dytox.outputs(MAIN, IMAGES, None)))
    assert terms[1].pop("distillation").item() == pytest.approx(3 * terms[0].pop("distillation").item())
    assert terms[0] == terms[1]


@pytest.mark.parametrize("softmax_too", [False, True])
def test_fine_tuning_only_classifies_and_does_not_scale_it(softmax_too: bool) -> None:
    dytox = moved_student(softmax=softmax_too)
    cross_entropy = softmax_cross_entropy if softmax_too else sigmoid_cross_entropy
    outputs = dytox.outputs(FINETUNING, IMAGES, None)
    assert outputs.auxiliary is None
    terms = dytox.losses(task(1, 3, 2), FINETUNING, BATCH, outputs)
    expected = cross_entropy(outputs.logits.tolist(), BATCH.targets.tolist())
    assert {name: term.item() for name, term in terms.items()} == pytest.approx({"classification": expected}, rel=1e-5)


def test_without_distillation_classification_keeps_its_weight() -> None:
    dytox = moved_student(distillation=False)
    assert dytox.teacher is None
    outputs = dytox.outputs(MAIN, IMAGES, None)
    terms = dytox.losses(task(1, 3, 2), MAIN, BATCH, outputs)
    assert list(terms) == ["classification", "divergence"]
    expected = sigmoid_cross_entropy(outputs.logits.tolist(), BATCH.targets.tolist())
    assert terms["classification"].item() == pytest.approx(expected, rel=1e-5)


def test_both_passes_of_a_step_ask_the_teacher_once() -> None:
    dytox, second_task = moved_student(), task(1, 3, 2)
    assert dytox.teacher is not None
    asked: list[int] = []
    dytox.teacher.register_forward_hook(lambda *_: asked.append(1))
    batch = Batch(BATCH.images, BATCH.labels, BATCH.targets)
    outputs = dytox.outputs(MAIN, IMAGES, None)
    first, second = (dytox.losses(second_task, MAIN, batch, outputs) for _ in range(2))
    assert len(asked) == 1
    assert torch.equal(first["distillation"], second["distillation"])
    dytox.losses(second_task, MAIN, Batch(batch.images, batch.labels, batch.targets), outputs)
    assert len(asked) == 2, "another batch is another question"


def test_the_teacher_gets_no_gradient() -> None:
    dytox = moved_student()
    total(dytox.losses(task(1, 3, 2), MAIN, BATCH, dytox.outputs(MAIN, IMAGES, None))).backward()
    assert dytox.teacher is not None
    assert all(parameter.grad is None for parameter in dytox.teacher.parameters())


# ---- plan and growth ---------------------------------------------------------------------------------------------


def test_plan_of_the_first_and_of_later_tasks() -> None:
    assert method().plan(task(0, 3)) == [Grow(), Fit(MAIN), Herd(), Evaluate()]
    later = [Grow(), Fit(MAIN), Herd(), Fit(FINETUNING), Evaluate()]
    assert method(3).plan(task(1, 3, 2)) == later
    assert method(3, 2).plan(task(2, 3, 2, 4)) == later


def test_plan_without_memory_has_no_balanced_phase() -> None:
    for index in range(2):
        assert method(rehearsal=False).plan(task(index, 3, 2)) == [Grow(), Fit(MAIN), Evaluate()]


def test_plan_variations() -> None:
    alone = method(finetune_first=True)
    assert alone.plan(task(0, 9)) == [Grow(), Fit(MAIN), Herd(), Fit(FINETUNING), Evaluate()]
    assert method(finetuning=None).plan(task(1, 3, 2)) == [Grow(), Fit(MAIN), Herd(), Evaluate()]
    assert method(herd_augmented=True).plan(task(0, 3))[2] == Herd(augmented=True)
    assert method(herd_distinct=True).plan(task(0, 3))[2] == Herd(distinct=True)


def test_herding_after_fine_tuning() -> None:
    late = method(herd_after_finetuning=True)
    assert late.plan(task(0, 3)) == [Grow(), Fit(MAIN), Herd(), Evaluate()]
    assert late.plan(task(1, 3, 2)) == [Grow(), Fit(MAIN), Fit(FINETUNING), Herd(), Evaluate()]
    assert method(herd_after_finetuning=True, finetuning=None).plan(task(1, 3, 2))[2:] == [Herd(), Evaluate()]
    assert method(herd_after_finetuning=True, rehearsal=False).plan(task(1, 3, 2))[2:] == [Evaluate()]


def test_sharpness_is_left_out_of_the_first_task() -> None:
    dytox = method(main=SHARP)
    assert dytox.plan(task(0, 3))[1] == Fit(MAIN)
    assert dytox.plan(task(1, 3, 2))[1] == Fit(SHARP)
    assert dytox.plan(task(1, 3, 2))[3] == Fit(FINETUNING)
    assert method(main=SHARP, sharpness_from_task=0).plan(task(0, 3))[1] == Fit(SHARP)


def test_the_teacher_is_the_network_before_growth_and_frozen() -> None:
    assert method(3).teacher is None
    dytox = method(3)
    for index, size in ((1, 2), (2, 4)):
        dytox.network.train()
        before = dytox.network.logits(dytox.network(IMAGES)).detach()
        dytox.grow(task(index, 3, 2, 4), Key(index), NOTHING)
        teacher = dytox.teacher
        assert teacher is not None
        assert not any(module.training for module in teacher.modules())
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
        own = {parameter.data_ptr() for parameter in dytox.network.parameters()}
        assert own.isdisjoint(parameter.data_ptr() for parameter in teacher.parameters())
        assert not any("teacher" in name for name in dytox.network.state_dict())
        for parameter in dytox.network.parameters():
            parameter.data += 0.1
        assert torch.equal(teacher.logits(teacher(IMAGES)), before)
        assert dytox.network.logits(dytox.network(IMAGES)).shape[1] == before.shape[1] + size


def test_herding_sees_all_task_embeddings() -> None:
    dytox = method(3, 2)
    features = dytox.network(IMAGES)
    embedded = dytox.embed(IMAGES)
    assert embedded.shape == (6, 48)
    assert torch.equal(embedded, torch.cat([features.embeddings[:, 0], features.embeddings[:, 1]], dim=1))


def test_parts_of_the_phases_are_all_that_there_are() -> None:
    parts = set(method(3, 2).network.parts())
    assert parts - set(MAIN_PARTS) == {"old_tokens", "old_heads"}
    assert parts - set(FINETUNING_PARTS) == {"encoder", "divergence"}


# ---- from a configuration ----------------------------------------------------------------------------------------

TWO_TASKS = ["data.increment=5"]
ONE_TASK = ["data.increment=10"]


def configured(*overrides: str) -> tuple[DyTox, Task]:
    """DyTox on digits as a run builds it, and the last task."""
    config = compose_typed(["run_dir=unused", *overrides])
    scenario = build_scenario(config)
    dytox = build_method(config, scenario, Key(0))
    assert isinstance(dytox, DyTox)
    return dytox, scenario.tasks[-1]


def phases(dytox: DyTox, current: Task) -> dict[str, Phase]:
    return {item.phase.name: item.phase for item in dytox.plan(current) if isinstance(item, Fit)}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["erratum_2022_06", "paper_2022_03"])
def test_joint_training_is_fine_tuned_as_published(recipe: str) -> None:
    assert list(phases(*configured(f"recipe={recipe}", *ONE_TASK))) == ["main", "finetuning"]
    assert list(phases(*configured(f"recipe={recipe}", "recipe.finetune_joint=false", *ONE_TASK))) == ["main"]


@pytest.mark.slow
def test_joint_training_is_not_fine_tuned_with_the_clean_recipe() -> None:
    assert list(phases(*configured(*ONE_TASK))) == ["main"]
    assert list(phases(*configured("recipe.finetune_joint=true", *ONE_TASK))) == ["main", "finetuning"]
    dytox, _ = configured("recipe.finetune_joint=true", *TWO_TASKS)
    assert list(phases(dytox, task(0, 5, 5))) == ["main"], "of several tasks the first has nothing to balance"


def test_fine_tuning_before_herding_sees_the_memory_and_behind_it_a_balanced_view() -> None:
    dytox, last = configured(*TWO_TASKS)
    assert phases(dytox, last)["finetuning"].view is View.MEMORY
    late, last = configured("recipe.herd_after_finetuning=true", *TWO_TASKS)
    assert phases(late, last)["finetuning"].view is View.BALANCED
    assert isinstance(late.plan(last)[-2], Herd)


def test_mixup_stays_out_of_fine_tuning_on_demand() -> None:
    both = phases(*configured("method=dytox_plus", *TWO_TASKS))
    assert both["main"].mixing == both["finetuning"].mixing is not None
    main_alone = phases(*configured("method=dytox_plus", "method.mixup.in_finetuning=false", *TWO_TASKS))
    assert main_alone == {**both, "finetuning": dataclasses.replace(both["finetuning"], mixing=None)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "softmax_too"),
    [
        (["method=dytox_plus", "recipe=paper_2022_03"], True),
        (["method=dytox_plusplus", "recipe=paper_2022_03"], True),
        (["method=dytox", "recipe=paper_2022_03"], False),
        (["method=dytox_plus", "recipe=erratum_2022_06"], False),
        (["method=dytox_plus"], False),
        (["method=dytox_plus", "recipe.mixup_softmax=true"], True),
    ],
)  # fmt: skip
def test_softmax_with_mixup_alone(overrides: list[str], softmax_too: bool) -> None:
    dytox, _ = configured(*overrides, *TWO_TASKS)
    for index in range(2):
        dytox.grow(task(index, 3, 2), Key(index), NOTHING)
    batch = dataclasses.replace(BATCH, images=IMAGES[:, :1, :8, :8])
    for phase in phases(dytox, task(1, 3, 2)).values():
        outputs = dytox.outputs(phase, batch.images, None)
        terms = dytox.losses(task(1, 3, 2), phase, batch, outputs)
        cross_entropy = softmax_cross_entropy if softmax_too else sigmoid_cross_entropy
        scale = 0.4 if phase.name == "main" else 1.0
        expected = scale * cross_entropy(outputs.logits.tolist(), BATCH.targets.tolist())
        assert terms["classification"].item() == pytest.approx(expected, rel=1e-5)
