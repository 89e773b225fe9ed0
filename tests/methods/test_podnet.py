"""PODNet's own promises: where proxies begin, what is distilled, and exemplars that are chosen again."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.core.types import Act, Batch, Evaluate, Fit, Grow, Herd, Optimiser, Phase, Schedule, View
from cl_lightning.factory.data import build_scenario
from cl_lightning.factory.methods import build_method
from cl_lightning.losses.cosine import less_forget
from cl_lightning.losses.nca import nca
from cl_lightning.losses.pod import pod_spatial
from cl_lightning.methods.podnet import FINETUNING_PARTS, MAIN_PARTS, PODNet
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.proxies import ProxiesByTask
from cl_lightning.models.resnet import CifarResNet
from tests.methods.lives import FakeDataAccess, pixels, task
from tests.methods.options import podnet_options

MAIN = Phase("main", View.MERGED, 1, Optimiser("sgd", 0.1), Schedule("constant"), MAIN_PARTS)
FINETUNING = Phase("finetuning", View.MEMORY, 1, Optimiser("sgd", 0.1), Schedule("constant"), FINETUNING_PARTS)
LOOK = FakeDataAccess({})


def method(*, finetuning: Phase | None = FINETUNING, tasks: int = 0, **changed: Any) -> PODNet:
    with torch_seeded(Key(0)):
        backbone = CifarResNet(depth=14, channels=1, stream_relu=False, final_stage=True)
        network = EmbeddingNetwork(backbone, head=ProxiesByTask(64, 2))
    made = PODNet(network, MAIN, finetuning, podnet_options(**changed))
    for index in range(tasks):
        made.grow(task(index), Key(index), LOOK)
    return made


def test_plans() -> None:
    learn, end = [Grow(), Fit(MAIN), Herd()], [Act("class_means"), Evaluate()]
    assert method().plan(task(0)) == [*learn, *end]
    assert method().plan(task(1)) == [*learn, Fit(FINETUNING), Herd(again=True), *end]
    assert method(moving_statistics=False).plan(task(1)) == [*learn, Fit(FINETUNING), *end], "no feature has moved"
    assert method(finetuning=None).plan(task(1)) == [*learn, *end]
    assert method(rehearsal=False).plan(task(1)) == [Grow(), Fit(MAIN), Evaluate()]


def test_proxies_of_a_new_class_are_centres_of_its_features() -> None:
    made = method(tasks=1)
    length = made.network.classifier.new_rows().norm(dim=1).mean().item()
    made.network.eval()
    made.grow(task(1), Key(1), LOOK)
    (label,) = task(1).classes
    with torch.no_grad():
        unit = F.normalize(made.embed(pixels(LOOK.rows_of(label))).double(), dim=-1)
    centres = made.network.classifier.new_rows().double() / length
    nearest = torch.cdist(unit, centres).argmin(dim=1)
    for proxy in range(2):
        torch.testing.assert_close(centres[proxy], unit[nearest == proxy].mean(dim=0), atol=1e-5, rtol=0)


def test_the_loss_of_a_batch() -> None:
    made = method(tasks=3)
    made.network.eval()
    with torch.no_grad():
        for weight in made.network.parameters():  # away from the teacher
            weight.add_(0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    current, images = task(2), pixels(torch.arange(100, 106))
    labels = torch.tensor([0, 5, 3, 4, 1, 2])
    batch = Batch(images, labels, F.one_hot(labels, 6).float())
    with torch.no_grad():
        outputs = made.outputs(MAIN, images, None)
        terms = made.losses(current, MAIN, batch, outputs)
        only = made.losses(current, FINETUNING, batch, outputs)
        assert made.teacher is not None
        theirs = made.teacher(images)
    ours, scale = outputs.features, made.network.classifier.scale
    assert [tuple(each.shape[1:]) for each in ours.maps] == [(16, 8, 8), (32, 4, 4), (64, 2, 2), (64, 2, 2)]
    expected = nca(outputs.logits, labels, scale, 0.6, "public").item()
    assert terms["classification"].item() == pytest.approx(expected, rel=1e-6)
    factor = math.sqrt(6 / 2)
    flat = less_forget(ours.embeddings[:, 0], theirs.embeddings[:, 0]).item()
    assert terms["pod_flat"].item() == pytest.approx(factor * flat, rel=1e-5)
    assert terms["pod_spatial"].item() == pytest.approx(
        3 * factor * pod_spatial(ours.maps, theirs.maps).item(), rel=1e-5
    )
    assert flat > 1e-3
    assert list(only) == ["classification"]


def test_fine_tuning_moves_statistics_where_published() -> None:
    for moving in (True, False):
        made = method(tasks=2, moving_statistics=moving)
        made.train_mode(FINETUNING)
        assert made.network.training == moving
        made.train_mode(MAIN)
        assert made.network.training


def build(*overrides: str) -> PODNet:
    config = compose_one_of_many(["run_dir=unused", "method=podnet", *overrides])[0]
    return build_method(config, build_scenario(config), Key(0))  # type: ignore[return-value]


def test_the_authors_schedule_and_network() -> None:
    made = build("model=resnet8", "model.depth=14", "epochs_scale=1", "balanced_epochs_scale=1")
    main, finetuning = (item.phase for item in made.plan(task(1, (5, 5))) if isinstance(item, Fit))
    assert (main.epochs, main.schedule.name, main.optimiser.lr, main.gradient_clamp) == (160, "cosine", 0.1, 5.0)
    assert (finetuning.epochs, finetuning.schedule.name, finetuning.optimiser.lr) == (20, "constant", 0.05)
    assert finetuning.trains == ("old_classes", "new_classes")
    blocks = [each for stage in made.network.backbone.stages for each in stage]  # type: ignore[union-attr]
    assert len(blocks) == 6
    assert not any(block.relu for block in blocks)
    assert all(block.norm2.weight.eq(0).all() for block in blocks)


def test_a_transformer_has_no_maps() -> None:
    with pytest.raises(UserError, match="type model=resnet32 or model=resnet18"):
        build("model=convit_tiny")
