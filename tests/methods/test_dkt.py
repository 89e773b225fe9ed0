"""Promises of DKT alone: golden vectors, its terms, what each phase trains, modes of frozen parts, early tasks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from cl_lightning.core.rng import Key
from cl_lightning.core.types import Batch, Features, Fit, Outputs, Phase, Task
from cl_lightning.data.scenarios.scenario import without_images
from cl_lightning.factory.methods import build_method
from cl_lightning.factory.scenario import dataset_scenario
from cl_lightning.losses.pair_similarity import pair_similarity
from cl_lightning.methods.dkt import DKT
from cl_lightning.methods.dytox import DyTox
from cl_lightning.models.replica_norm import ReplicaBatchNorm2d
from scripts.check_reference import main as check_reference
from tests.config.made import filled
from tests.golden import GOLDEN

SMALL = ("model.dim=16", "model.num_heads=4", "model.depth=2", "model.patch_size=4")


def build(*overrides: str, method: str = "dkt") -> Any:
    model = [] if any(each.startswith("model=") for each in overrides) else ["model=conv_vit_tiny"]
    config = filled(f"method={method}", *model, *SMALL, *overrides)
    return build_method(config, dataset_scenario(config.data), Key(0))


def tasks(sizes: tuple[int, ...] = (3, 2, 2)) -> list[Task]:
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    rows = torch.empty(0, dtype=torch.int64)
    return [
        Task(index, tuple(range(first, first + size)), tuple(map(str, range(first, first + size))), rows, rows)
        for index, (first, size) in enumerate(zip(starts, sizes, strict=True))
    ]


def grown(made: DKT | DyTox, count: int) -> Task:
    look: Any = None  # growth looks at no data
    for task in tasks()[:count]:
        made.grow(task, Key(task.index), look)
    return task


def phases(made: DKT, index: int) -> list[Phase]:
    return [item.phase for item in made.plan(tasks()[index]) if isinstance(item, Fit)]


def batch(seen: int) -> tuple[Batch, Outputs]:
    generator = torch.Generator().manual_seed(3)
    labels = torch.tensor([0, 3, 4, 1, 0, 4])
    images, scores = torch.randn(6, 1, 8, 8, generator=generator), torch.randn(6, seen, generator=generator)
    embeddings = torch.randn(6, 1, 16, generator=generator)
    targets = torch.nn.functional.one_hot(labels, seen).float()
    return Batch(images, labels, targets), Outputs(scores, Features(embeddings))


@pytest.mark.parametrize("file", ["dkt_small", "dkt_replicas", "dkt_recipe"])
def test_golden_vectors(file: str) -> None:
    assert check_reference([str(GOLDEN / f"{file}.npz")]) == 0


def test_terms_are_dytox_s_and_similarity() -> None:
    made, theirs = build("recipe=clean"), build("recipe=clean", method="dytox")
    task = grown(made, 2)
    grown(theirs, 2)
    theirs.teacher = made.teacher
    main, (given, outputs) = phases(made, 1)[0], batch(5)
    terms, others = made.losses(task, main, given, outputs), theirs.losses(task, main, given, outputs)
    assert list(terms) == ["classification", "distillation", "similarity"]
    for name in ("classification", "distillation"):
        assert torch.equal(terms[name], others[name]), name
    remembered = made.teacher(given.images).embeddings[:, 0]
    expected = 0.003 * pair_similarity(outputs.features.embeddings[:, 0], remembered, given.labels, 3)
    torch.testing.assert_close(terms["similarity"], expected)
    assert list(made.losses(task, phases(made, 1)[1], given, outputs)) == ["classification"]


def test_the_public_code_counts_the_classification_twice_once_there_is_a_teacher() -> None:
    found = {}
    for twice in ("true", "false"):
        made = build("recipe=clean", f"recipe.classification_twice={twice}")
        first, (given, outputs) = grown(made, 1), batch(5)
        alone = made.losses(first, phases(made, 0)[0], given, outputs)["classification"]
        task = grown(build("recipe=clean"), 2)
        made.grow(task, Key(1), None)
        found[twice] = (alone, made.losses(task, phases(made, 1)[0], given, outputs)["classification"])
    assert torch.equal(found["true"][0], found["false"][0])
    torch.testing.assert_close(found["true"][1], 2 * found["false"][1])


def test_rows_are_the_batch_times_pairs() -> None:
    terms = {}
    for mean in ("pairs", "rows"):
        made = build("recipe=clean", f"recipe.similarity_mean={mean}")
        task, (given, outputs) = grown(made, 2), batch(5)
        terms[mean] = made.losses(task, phases(made, 1)[0], given, outputs)["similarity"]
    torch.testing.assert_close(terms["rows"], 6 * terms["pairs"])


@pytest.mark.parametrize(("recipe", "general"), [("clean", False), ("dkt_2023_06", True)])
def test_what_each_phase_trains(recipe: str, general: bool) -> None:
    made = build(f"recipe={recipe}")
    grown(made, 3)
    main, finetuning = phases(made, 2)
    assert set(main.trains) == {"encoder", "general_token", "decoder", "new_token", "new_head"}
    assert set(finetuning.trains) == {"decoder", "old_heads", "new_head"} | ({"general_token"} if general else set())
    parts = made.network.parts()
    everything = sorted(id(parameter) for part in parts.values() for parameter in part)
    assert everything == sorted(id(parameter) for parameter in made.network.parameters())


def test_on_an_encoder_without_one_no_general_token_is_trained() -> None:
    made = build("recipe=clean", "recipe.general_token_in_finetuning=true", "model=convit_tiny")
    assert all("general_token" not in phase.trains for phase in phases(made, 1))


@pytest.mark.parametrize("method", ["dkt", "dytox", "daformer_m"])
@pytest.mark.parametrize("moving", [True, False])
def test_statistics_of_frozen_parts_move_where_the_recipe_says_so(method: str, moving: bool) -> None:
    recipe = ("recipe=clean", f"recipe.statistics_in_frozen={str(moving).lower()}")
    made = build(*recipe, method=method)
    grown(made, 2)
    for phase, encoder_trains in zip(phases(made, 1), (True, moving), strict=True):
        made.train_mode(phase)
        norms = [module for module in made.network.encoder.modules() if isinstance(module, ReplicaBatchNorm2d)]
        assert norms
        assert all(norm.training == encoder_trains for norm in norms)
        others = [module for module in made.network.decoder.modules() if isinstance(module, ReplicaBatchNorm2d)]
        assert all(norm.training for norm in others)


def test_the_first_tasks_are_fine_tuned_shorter() -> None:
    made = build("recipe=clean", "method.finetuning_early.tasks=2", "method.finetuning.epochs=10")
    assert [[phase.epochs for phase in phases(made, index)[1:]] for index in range(3)] == [[], [1], [10]]
    alike = build("recipe=clean", "method.finetuning_early=null", "method.finetuning.epochs=10")
    assert [[phase.epochs for phase in phases(alike, index)[1:]] for index in range(3)] == [[], [10], [10]]


@pytest.mark.parametrize(("number", "shorter"), [(2, 1), (5, 2), (10, 3), (20, 6), (50, 15)])
def test_three_tenths_of_the_tasks_are_fine_tuned_shorter(number: int, shorter: int) -> None:
    overrides = ("recipe=clean", "method.finetuning.epochs=10", "data=cifar100_10steps", f"data.classes={number}")
    config = filled("method=dkt", "model=conv_vit_tiny", *SMALL, *overrides, "data.increment=1")
    made = build_method(config, without_images("toy", list(map(str, range(number))), (1,) * number, 8, 3), Key(0))
    epochs = [
        item.phase.epochs
        for task in tasks((1,) * number)
        for item in made.plan(task)
        if isinstance(item, Fit) and item.phase.name == "finetuning"
    ]
    assert epochs == [1] * (shorter - 1) + [10] * (number - shorter)


def test_a_part_can_be_taken_away_by_itself() -> None:
    whole = build("recipe=clean").network.structure()
    one_head = build("recipe=clean", "method.head=linear").network.structure()
    assert (whole.pop("classifier")["kind"], one_head.pop("classifier")["kind"]) == ("duplex", "joint")
    assert whole == one_head
    on_convit = build("recipe=clean", "model=convit_tiny").network.structure()
    assert on_convit["decoder"] == whole["decoder"]
    assert on_convit["encoder"]["kind"] == "convit"
    assert build("recipe=clean", method="dytox").network.structure()["encoder"] == whole["encoder"]


@pytest.mark.parametrize(("merge", "moves"), [("exact", False), ("separate", False), ("published", True)])
def test_growth_moves_scores_of_an_embedding_as_the_merge_says(merge: str, moves: bool) -> None:
    made = build("recipe=clean", f"recipe.merge={merge}")
    grown(made, 2)
    with torch.no_grad():
        for parameter in made.network.classifier.parameters():
            parameter.add_(0.3 * torch.linspace(-1, 1, parameter.numel()).view_as(parameter))
        features = Features(torch.linspace(-2, 3, 4 * 16).view(4, 1, 16))
        before = made.network.logits(features)
        made.grow(tasks()[2], Key(2), None)
        after = made.network.logits(features)[:, :5]
    assert torch.allclose(after, before, atol=1e-5) != moves


def test_one_embedding_is_herded_and_scores_are_sigmoids() -> None:
    made = build("recipe=clean")
    grown(made, 3)
    made.network.eval()
    assert made.embed(torch.zeros(4, 1, 8, 8)).shape == (4, 16)
    assert made.predict(torch.zeros(4, 1, 8, 8))["linear"].shape == (4, 7)
    assert made.readouts()["linear"].probability == "sigmoid"
    assert made.couples_batch
    assert not build("recipe=clean", "method.similarity_weight=0").couples_batch
