"""UCIR's own promises: old rows stay, new ones are imprinted, and a second read-out by exemplars."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.core.types import Act, Batch, Evaluate, Fit, Grow, Herd, Optimiser, Phase, Schedule, Task, View
from cl_lightning.factory.data import build_scenario
from cl_lightning.factory.methods import build_method
from cl_lightning.losses.cosine import margin_ranking
from cl_lightning.methods.ucir import FINETUNING_PARTS, MAIN_PARTS, UCIR
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.heads import CosineByTask
from cl_lightning.models.resnet import CifarResNet
from tests.methods.lives import FakeDataAccess, pixels, task
from tests.methods.options import ucir_options

MAIN = Phase("main", View.MERGED, 1, Optimiser("sgd", 0.1), Schedule("constant"), MAIN_PARTS)
FINETUNING = Phase("balanced_finetuning", View.MEMORY, 1, Optimiser("sgd", 0.1), Schedule("constant"), FINETUNING_PARTS)
LOOK = FakeDataAccess({})


def method(*, finetuning: Phase | None = None, **changed: Any) -> UCIR:
    with torch_seeded(Key(0)):
        network = EmbeddingNetwork(CifarResNet(depth=8, channels=1, last_relu=False), head=CosineByTask(64))
    return UCIR(network, MAIN, finetuning, ucir_options(**changed))


def grown(tasks: int, **changed: Any) -> UCIR:
    made = method(**changed)
    for index in range(tasks):
        made.grow(task(index), Key(index), LOOK)
    return made


def test_plans() -> None:
    learn, means = [Grow(), Fit(MAIN), Herd()], [Act("class_means"), Evaluate()]
    assert method().plan(task(1)) == [*learn, *means]
    assert method(finetuning=FINETUNING).plan(task(1)) == [*learn, Fit(FINETUNING), *means]
    assert method(finetuning=FINETUNING).plan(task(0)) == [*learn, *means], "there is nothing to balance yet"
    assert method(rehearsal=False).plan(task(1)) == [Grow(), Fit(MAIN), Evaluate()]


def mean_feature(made: UCIR, label: int) -> Tensor:
    with torch.no_grad():
        return F.normalize(made.embed(pixels(LOOK.rows_of(label))), dim=-1).mean(dim=0)


def test_new_rows_are_imprinted_and_old_ones_stay() -> None:
    made = grown(1)
    before = made.network.classifier.new_rows().detach().clone()
    made.network.eval()
    directions = [mean_feature(made, label) for label in task(1).classes]
    made.grow(task(1), Key(1), LOOK)
    head = made.network.classifier
    assert torch.equal(head.old_rows(), before)
    for row, direction in zip(head.new_rows(), directions, strict=True):
        assert F.cosine_similarity(row, direction, dim=0).item() == pytest.approx(1, abs=1e-6)
        assert row.norm().item() == pytest.approx(before.norm(dim=1).mean().item(), rel=1e-5)
    assert not torch.allclose(grown(2, imprint=False).network.classifier.new_rows(), head.new_rows())


def test_the_loss_of_a_batch() -> None:
    made = grown(3)
    made.network.eval()
    with torch.no_grad():
        for parameter in made.network.classifier.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        for weight in made.network.backbone.parameters():  # away from the teacher
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    current, images = task(2), pixels(torch.arange(100, 106))
    labels = torch.tensor([0, 5, 3, 4, 1, 2])
    batch = Batch(images, labels, F.one_hot(labels, 6).float())
    with torch.no_grad():
        outputs = made.outputs(MAIN, images, None)
        terms = made.losses(current, MAIN, batch, outputs)
        assert made.teacher is not None
        theirs = made.teacher(images).embeddings[:, 0]
    ours, cosines = (
        outputs.features.embeddings[:, 0],
        made.network.classifier.cosines(outputs.features.embeddings[:, 0]),
    )
    torch.testing.assert_close(outputs.logits, made.network.classifier.scale * cosines)
    expected = F.cross_entropy(outputs.logits, labels)
    assert terms["classification"].item() == pytest.approx(expected.item(), rel=1e-5)
    turned = (1 - F.cosine_similarity(ours, theirs)).mean().item()
    assert turned > 1e-4
    assert terms["less_forget"].item() == pytest.approx(5 * math.sqrt(4 / 2) * turned, rel=1e-4)
    assert terms["ranking"].item() == pytest.approx(margin_ranking(cosines, labels, 4, 2, 0.5).item(), rel=1e-6)


def test_fine_tuning_moves_no_statistics() -> None:
    made = grown(2, finetuning=FINETUNING)
    made.train_mode(MAIN)
    assert made.network.training
    made.train_mode(FINETUNING)
    assert not any(module.training for module in made.network.modules())


def test_a_second_read_out_waits_for_its_means() -> None:
    made = grown(1)
    images = pixels(torch.arange(3))
    assert made.pending_readouts() == {"nme"}
    assert made.predict(images)["nme"].eq(-torch.inf).all()
    look = FakeDataAccess({label: LOOK.rows_of(label) for label in task(0).classes})
    made.network.eval()
    made.act("class_means", task(0), look)
    assert made.pending_readouts() == frozenset()
    assert list(made.predict(images)) == list(made.readouts()) == ["linear", "nme"]
    again = grown(1)
    again.load_extra_state(made.extra_state())
    assert torch.equal(again.means.class_means, made.means.class_means)
    with pytest.raises(InvalidFileError, match="resume a run of method=ucir"):
        again.load_extra_state({"class_means": torch.zeros(3, 7)})
    assert list(grown(1, rehearsal=False).predict(images)) == ["linear"]


def build(*overrides: str) -> UCIR:
    config = compose_one_of_many(["run_dir=unused", "method=ucir", *overrides])[0]
    return build_method(config, build_scenario(config), Key(0))  # type: ignore[return-value]


def main_phase(made: UCIR, index: int = 0) -> Phase:
    return next(item.phase for item in made.plan(_task(index)) if isinstance(item, Fit))


def _task(index: int) -> Task:
    return task(index, (2, 2, 2, 2, 2))


def test_the_authors_schedule_and_network() -> None:
    made = build("model=resnet8", "model.shortcut=projection", "epochs_scale=1")
    main = main_phase(made)
    assert (main.epochs, main.optimiser.lr, main.optimiser.weight_decay) == (160, 0.1, 5e-4)
    assert [round(share * 160) for share in main.schedule.milestones] == [80, 120]
    assert main.trains == ("backbone", "new_classes", "scale")
    structure = made.network.structure()["backbone"]
    assert (structure["last_relu"], structure["shortcut"]) == (False, "projection")
    assert build("model=resnet18", "model.width=4").network.structure()["backbone"]["last_relu"] is False


def test_balanced_fine_tuning_is_an_option() -> None:
    names = [item.phase.name for item in build("model=resnet8").plan(_task(1)) if isinstance(item, Fit)]
    assert names == ["main"]
    made = build("model=resnet8", "method.finetune=true")
    assert [item.phase.name for item in made.plan(_task(1)) if isinstance(item, Fit)] == ["main", "balanced_finetuning"]
