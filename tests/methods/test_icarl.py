from __future__ import annotations

import io
import math

import pytest
import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.core.types import (
    Act,
    Batch,
    Embed,
    Evaluate,
    Fit,
    Grow,
    Herd,
    Optimiser,
    Phase,
    Schedule,
    Task,
    View,
)
from cl_lightning.methods.class_means import CLASS_MEANS, nearest_mean_scores
from cl_lightning.methods.icarl import MAIN_PARTS, ICaRL
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.resnet import CifarResNet

MAIN = Phase("main", View.MERGED, 1, Optimiser("sgd", 2.0), Schedule("constant"), MAIN_PARTS)
IMAGES = rng.normal(Key(5), torch.arange(12 * 64)).view(12, 1, 8, 8)


class FakeExemplars:
    """A ``Look`` at ``IMAGES``: rows of each class, with or without mirrored copies."""

    def __init__(self, exemplars: dict[int, list[int]], flips: bool = False) -> None:
        self.exemplars = {label: torch.tensor(rows, dtype=torch.int64) for label, rows in exemplars.items()}
        self.flips = flips

    def rows_of(self, label: int) -> Tensor:
        raise AssertionError("iCaRL averages exemplars only")

    @torch.no_grad()
    def embed(self, rows: Tensor, embed: Embed, *, flip: bool = False) -> Tensor:
        images = IMAGES[rows]
        return embed(images.flip(-1) if flip else images)


def task(index: int, *sizes: int) -> Task:
    first = sum(sizes[:index])
    classes = tuple(range(first, first + sizes[index]))
    return Task(index, classes, tuple(map(str, classes)), torch.empty(0), torch.empty(0))


def method(*sizes: int) -> ICaRL:
    with rng.torch_seeded(Key(0)):
        icarl = ICaRL(EmbeddingNetwork(CifarResNet(depth=8, channels=1)), MAIN, rehearsal=True)
    for index in range(len(sizes)):
        icarl.grow(task(index, *sizes), Key(0), FakeExemplars({}))
    icarl.network.eval()
    return icarl


def batch(labels: list[int], num_classes: int) -> Batch:
    targets = torch.nn.functional.one_hot(torch.tensor(labels), num_classes).float()
    return Batch(IMAGES[: len(labels)], torch.tensor(labels), targets)


def test_plan() -> None:
    assert method().plan(task(0, 2)) == [Grow(), Fit(MAIN), Herd(distinct=True), Act("class_means"), Evaluate()]
    assert method(2).plan(task(1, 2, 2)) == method().plan(task(0, 2))


def test_growth_keeps_old_scores_and_a_frozen_teacher() -> None:
    icarl = method(2)
    assert method(2).teacher is None
    before = icarl.predict(IMAGES)["linear"]
    icarl.grow(task(1, 2, 3), Key(0), FakeExemplars({}))
    after = icarl.predict(IMAGES)["linear"]
    assert after.shape == (12, 5)
    torch.testing.assert_close(after[:, :2], before)
    assert icarl.teacher is not None
    icarl.network.classifier.weight.data.zero_()
    assert torch.equal(icarl.teacher.logits(icarl.teacher(IMAGES)), before)
    assert not icarl.teacher.training
    assert not any(p.requires_grad for p in icarl.teacher.parameters())


def test_first_loss_is_the_mean_sigmoid_cross_entropy() -> None:
    icarl = method(3)
    data = batch([2, 0, 1, 1], 3)
    outputs = icarl.outputs(MAIN, data.images, None)
    terms = icarl.losses(task(0, 3), MAIN, data, outputs)
    total = 0.0
    for image, label in enumerate([2, 0, 1, 1]):
        for c in range(3):
            p = 1 / (1 + math.exp(-outputs.logits[image, c].item()))
            total -= math.log(p if c == label else 1 - p)
    assert set(terms) == {"classification"}
    assert terms["classification"].item() == pytest.approx(total / 12, rel=1e-5)


def test_later_loss_takes_the_teachers_sigmoid_for_old_classes_of_every_image() -> None:
    icarl = method(2, 3)
    icarl.network.classifier.weight.data.mul_(3.0)  # away from the teacher
    data = batch([2, 0, 4, 1], 5)  # exemplars of old classes among them
    outputs = icarl.outputs(MAIN, data.images, None)
    terms = icarl.losses(task(1, 2, 3), MAIN, data, outputs)
    assert icarl.teacher is not None
    old = icarl.teacher.logits(icarl.teacher(data.images))
    sums = {"classification": 0.0, "distillation": 0.0}
    for image, label in enumerate([2, 0, 4, 1]):
        for c in range(5):
            q = 1 / (1 + math.exp(-old[image, c].item())) if c < 2 else float(c == label)
            p = 1 / (1 + math.exp(-outputs.logits[image, c].item()))
            sums["distillation" if c < 2 else "classification"] -= q * math.log(p) + (1 - q) * math.log(1 - p)
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {name: value / 20 for name, value in sums.items()}, rel=1e-5
    )
    sum(terms.values()).backward()  # type: ignore[union-attr]
    assert all(p.grad is None for p in icarl.teacher.parameters())
    assert all(p.grad is not None for p in icarl.network.parameters())


def test_distillation_is_least_where_nothing_has_changed() -> None:
    icarl = method(2, 2)
    data = batch([0, 1, 2, 3], 4)
    logits = icarl.outputs(MAIN, data.images, None).logits.detach().requires_grad_(True)
    outputs = icarl.outputs(MAIN, data.images, None)
    terms = icarl.losses(task(1, 2, 2), MAIN, data, type(outputs)(logits, outputs.features))
    (gradient,) = torch.autograd.grad(terms["distillation"], logits)
    torch.testing.assert_close(gradient, torch.zeros(4, 4))


@pytest.mark.parametrize("flips", [False, True])
def test_class_means_against_a_loop(flips: bool) -> None:
    icarl = method(2, 1)
    exemplars = {0: [3, 1, 7], 1: [2], 2: [11, 5]}
    icarl.act(CLASS_MEANS, task(1, 2, 1), FakeExemplars(exemplars, flips))
    assert icarl.class_means.shape == (3, 64)
    for label, rows in exemplars.items():
        units = []
        for row in rows:
            for image in [IMAGES[row], IMAGES[row].flip(-1)][: 1 + flips]:
                feature = icarl.network(image[None]).embeddings[0, 0].detach()
                units.append(feature / feature.square().sum().sqrt())
        mean = torch.stack(units).mean(0)
        torch.testing.assert_close(icarl.class_means[label], mean / mean.square().sum().sqrt())


def test_mirrored_copies_matter() -> None:
    plain, mirrored = method(1), method(1)
    plain.act(CLASS_MEANS, task(0, 1), FakeExemplars({0: [0]}))
    mirrored.act(CLASS_MEANS, task(0, 1), FakeExemplars({0: [0]}, flips=True))
    assert not torch.allclose(plain.class_means, mirrored.class_means)


def test_nearest_mean_is_the_squared_distance() -> None:
    features, means = rng.normal(Key(1), torch.arange(35)).view(5, 7), rng.normal(Key(2), torch.arange(28)).view(4, 7)
    expected = torch.zeros(5, 4)
    for b in range(5):
        for c in range(4):
            unit = features[b] / features[b].norm()
            expected[b, c] = -sum((unit[k] - means[c, k]) ** 2 for k in range(7))
    torch.testing.assert_close(nearest_mean_scores(features, means), expected)
    torch.testing.assert_close(nearest_mean_scores(9 * features, means), expected)


def test_nearest_mean_keeps_float32_in_mixed_precision() -> None:
    features, means = rng.normal(Key(1), torch.arange(64)).view(2, 32), rng.normal(Key(2), torch.arange(64)).view(2, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = nearest_mean_scores(features, means)
    assert torch.equal(scores, nearest_mean_scores(features, means))


@torch.no_grad()
def test_predictions_are_nearest_mean_first_and_do_not_wait_for_the_means() -> None:
    icarl = method(2)
    icarl.act(CLASS_MEANS, task(0, 2), FakeExemplars({0: [0], 1: [1]}))
    scores = icarl.predict(IMAGES)
    assert list(scores) == ["nme", "linear"]
    assert scores["nme"].shape == scores["linear"].shape == (12, 2)
    assert scores["nme"][:2].argmax(1).tolist() == [0, 1]
    torch.testing.assert_close(scores["nme"][:2].diagonal(), torch.zeros(2), atol=1e-5, rtol=0)
    icarl.grow(task(1, 2, 2), Key(0), FakeExemplars({}))
    icarl.network.eval()
    later = icarl.predict(IMAGES)
    torch.testing.assert_close(later["nme"][:, :2], scores["nme"])
    assert (later["nme"][:, 2:] == -math.inf).all()
    assert later["linear"].shape == (12, 4)


def test_class_means_survive_a_checkpoint_and_nothing_else_is_taken() -> None:
    icarl = method(2)
    icarl.act(CLASS_MEANS, task(0, 2), FakeExemplars({0: [0, 2], 1: [1]}))
    buffer = io.BytesIO()
    torch.save(icarl.extra_state(), buffer)
    buffer.seek(0)
    restored = method(2)
    restored.load_extra_state(torch.load(buffer, weights_only=True))
    assert torch.equal(restored.predict(IMAGES)["nme"], icarl.predict(IMAGES)["nme"])
    restored.load_extra_state(method().extra_state())
    assert restored.class_means.shape == (0, 64)
    wrong = [{}, {CLASS_MEANS: torch.zeros(2, 63)}, {CLASS_MEANS: None}, {**icarl.extra_state(), "more": 1}]
    for state in wrong:
        with pytest.raises(ValueError, match=r"^[^\n]*class means of 64 features[^\n]*$"):
            restored.load_extra_state(state)


@pytest.mark.parametrize("exemplars", [{0: [1]}, {0: [1], 1: []}])
def test_a_class_without_exemplars_is_reported_in_one_line(exemplars: dict[int, list[int]]) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*none of 1 of 2[^\n]*pass size=2[^\n]*$"):
        method(2).act(CLASS_MEANS, task(0, 2), FakeExemplars(exemplars))


def test_without_memory_it_is_refused_in_one_line() -> None:
    network = EmbeddingNetwork(CifarResNet(depth=8, channels=1))
    with pytest.raises(ValueError, match=r"^[^\n]*iCaRL needs exemplars[^\n]*pass rehearsal=True[^\n]*$"):
        ICaRL(network, MAIN, rehearsal=False)


def test_unknown_actions_are_refused() -> None:
    with pytest.raises(NotImplementedError, match="align"):
        method(2).act("align", task(0, 2), FakeExemplars({}))


def test_it_learns() -> None:
    icarl = method(2)
    data = batch([0, 0, 0, 0, 1, 1, 1, 1], 2)
    optimiser = torch.optim.SGD(icarl.network.parameters(), lr=0.5)
    history = []
    for step in range(30):
        if step == 15:  # a second task, with exemplars of the first
            icarl.grow(task(1, 2, 2), Key(0), FakeExemplars({}))
            data = batch([2, 2, 2, 2, 3, 3, 0, 1], 4)
            optimiser = torch.optim.SGD(icarl.network.parameters(), lr=0.5)
        icarl.train_mode(MAIN)
        current = task(int(step >= 15), 2, 2)
        loss = sum(icarl.losses(current, MAIN, data, icarl.outputs(MAIN, data.images, None)).values())
        assert isinstance(loss, Tensor)
        history.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert history[14] < 0.5 * history[0]
    assert history[29] < 0.6 * history[15]
