"""HAT's own promises: annealing within an epoch, the terms of its loss, what it reports, and what it refuses."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from cl_lightning.config.check import check
from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.core import rng
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.core.types import Act, Batch, Evaluate, Fit, Grow, Optimiser, Phase, Progress, Schedule, Task, View
from cl_lightning.data.augmentation.mixup import one_hot
from cl_lightning.factory.methods import build_method
from cl_lightning.factory.scenario import dataset_scenario
from cl_lightning.learning.lightning_module import PhaseLength
from cl_lightning.methods.hat import ACCUMULATE, HAT, MAIN_PARTS
from cl_lightning.models.alexnet import AlexNet
from cl_lightning.models.hat_network import HatNetwork
from tests.config.made import filled
from tests.methods.lives import FakeDataAccess
from tests.methods.options import hat_options

MAIN = Phase("main", View.NEW, 1, Optimiser("sgd", 0.05), Schedule("constant"), MAIN_PARTS)
TASKS = [
    Task(0, (0, 1, 2), tuple("abc"), torch.empty(0), torch.empty(0)),
    Task(1, (3, 4), tuple("de"), torch.empty(0), torch.empty(0)),
]
IMAGES = rng.normal(Key(0), torch.arange(6)[:, None], torch.arange(64)).view(6, 1, 8, 8)
LOOK = FakeDataAccess({})


def method(**changed: Any) -> HAT:
    with torch_seeded(Key(1)):
        network = HatNetwork(AlexNet(image_size=8, channels=1, width=2, hidden=10))
    return HAT(network, MAIN, hat_options(**changed))


def test_a_task_grows_learns_accumulates_and_is_evaluated() -> None:
    assert method().plan(TASKS[0]) == [Grow(), Fit(MAIN), Act(ACCUMULATE), Evaluate()]


def test_masks_sharpen_within_an_epoch_and_begin_anew() -> None:
    """Three steps an epoch, of ten images: four, four and two."""
    hat, length = method(), PhaseLength(3, 2, 4, 10)
    hat.grow(TASKS[0], Key(0), LOOK)
    scales = [hat.network.scale.item()]
    for step in range(1, 7):
        hat.after_step(Progress(step, 6, length.epoch_of(step), 2, length.seen(step)))
        scales.append(hat.network.scale.item())
    low, span = 1 / 400, 400 - 1 / 400
    epoch = [low, low + 0.4 * span, low + 0.8 * span]
    assert scales == pytest.approx([*epoch, *epoch, low])


def test_embeddings_stay_within_the_limit() -> None:
    hat = method(embedding_limit=0.75)
    hat.grow(TASKS[0], Key(0), LOOK)
    hat.after_step(Progress(1, 2, 0, 1))
    assert hat.network.embeddings[0].abs().max() == 0.75


def test_the_loss_is_that_of_the_task_s_own_classes_and_of_the_units_that_are_left() -> None:
    hat = method(usage_weight=0.5)
    hat.grow(TASKS[0], Key(0), LOOK)
    with torch.no_grad():
        hat.network.embeddings[0][:20] = 6.0
    hat.act(ACCUMULATE, TASKS[0], LOOK)
    hat.grow(TASKS[1], Key(1), LOOK)
    hat.network.anneal(0.5)
    labels = torch.tensor([3, 4, 3, 3, 4, 4])
    outputs = hat.outputs(MAIN, IMAGES, None)
    terms = hat.losses(TASKS[1], MAIN, Batch(IMAGES, labels, one_hot(labels, 5)), outputs)
    masks, free = torch.sigmoid(hat.network.scale * hat.network.embeddings[1]), 1 - hat.network.used
    assert terms["mask_usage"].item() == pytest.approx(0.5 * ((masks * free).sum() / free.sum()).item(), rel=1e-5)
    own = torch.nn.functional.cross_entropy(outputs.logits[:, 3:], labels - 3)
    assert terms["classification"].item() == pytest.approx(own.item(), rel=1e-5)
    assert outputs.logits[:, :3].isneginf().all(), "older heads are not asked"


def test_masks_accumulate_as_they_are_and_full_ones_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    hat = method()
    hat.grow(TASKS[0], Key(0), LOOK)
    with torch.no_grad():
        hat.network.embeddings[0].fill_(0.001)
    with caplog.at_level(logging.INFO):
        hat.act(ACCUMULATE, TASKS[0], LOOK)
    assert hat.network.used.unique().item() == pytest.approx(torch.sigmoid(torch.tensor(0.4)).item())
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "task 1: its masks open 100.0 % of the units, 100.0 % are used"
    assert "type a larger method.usage_weight, or a larger model" in told[1]
    shares = hat.monitored_scalars()
    assert {name: share.item() for name, share in shares.items()} == {"masks/open": 1.0, "masks/used": 1.0}


def test_a_task_is_inferred_once_its_masks_are_accumulated() -> None:
    hat = method()
    hat.grow(TASKS[0], Key(0), LOOK)
    assert hat.pending_readouts() == {"entropy"}
    hat.act(ACCUMULATE, TASKS[0], LOOK)
    assert not hat.pending_readouts()
    hat.network.eval()
    before = hat.predict(IMAGES)
    hat.grow(TASKS[1], Key(1), LOOK)
    after = hat.predict(IMAGES)
    torch.testing.assert_close(after["entropy"][:, :3].softmax(1), before["linear"].softmax(1))
    assert (after["entropy"].argmax(dim=1) < 3).all()
    assert [readout.by_network for readout in hat.readouts().values()] == [True, False]


def test_the_published_settings_reach_the_phase() -> None:
    config = compose_one_of_many(["run_dir=unused", "method=hat", "model=alexnet_tiny", "data=digits"])[0]
    built = build_method(config, dataset_scenario(config.data), Key(0))
    assert isinstance(built, HAT)
    (phase,) = [item.phase for item in built.plan(TASKS[0]) if isinstance(item, Fit)]
    assert phase.gradient_norm == 10_000
    assert not phase.sampling.drop_last, "the last images of an epoch are trained on"
    assert (phase.optimiser.name, phase.optimiser.lr, phase.optimiser.momentum) == ("sgd", 0.05, 0.0)
    assert config.method.augmentation == "none"
    assert config.memory.budget == "none"
    assert (built.network.s_max, built.network.compensation) == (400, "published")


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("method.rehearsal=true", "method.rehearsal=true has no meaning for method=hat"),
        ("model=convit_tiny", "model=convit_tiny has no units that method=hat knows to mask: type model=alexnet"),
        ("model=timm_backbone", "has no units that method=hat knows to mask"),
        ("model=resnet8 model.frozen=true model.weights_file=F", "model.frozen=true leaves method=hat nothing to mask"),
        ("method.main.optimiser=adamw", "undoes the factors that spare older tasks"),
        ("method.main.weight_decay=1e-4", "method.main.weight_decay=0.0001 moves the weights that older tasks use"),
        ("method.readouts=[class_mean]", "is not a choice: type 'method.readouts=[linear,entropy]'"),
        ("method.compensation=none", "type method.compensation=published or method.compensation=exact"),
        ("method.s_max=0.5", "method.s_max=0.5 is out of range"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(typed: str, line: str) -> None:
    with pytest.raises(UserError) as caught:
        check(filled("method=hat", *typed.split()))
    assert line in str(caught.value)
