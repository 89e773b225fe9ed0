"""Classification losses against loops over single scores."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.losses.classification import binary_cross_entropy, cross_entropy, group_old, own_cross_entropy

Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES = [binary_cross_entropy, cross_entropy]


def scores(images: int, classes: int, seed: int = 0) -> Tensor:
    return 3 * rng.normal(Key(seed), torch.arange(images)[:, None], torch.arange(classes))


def soft_targets(images: int, classes: int) -> Tensor:
    return scores(images, classes, seed=1).softmax(dim=-1)


def sigmoid_loop(logits: list[list[float]], targets: list[list[float]]) -> float:
    total, count = 0.0, 0
    for row, wanted in zip(logits, targets, strict=True):
        for z, y in zip(row, wanted, strict=True):
            p = 1 / (1 + math.exp(-z))
            total -= y * math.log(p) + (1 - y) * math.log(1 - p)
            count += 1
    return total / count


def softmax_loop(logits: list[list[float]], targets: list[list[float]]) -> float:
    total = 0.0
    for row, wanted in zip(logits, targets, strict=True):
        log_sum = math.log(sum(math.exp(z) for z in row))
        total -= sum(y * (z - log_sum) for z, y in zip(row, wanted, strict=True))
    return total / len(logits)


@pytest.mark.parametrize(("loss", "loop"), [(binary_cross_entropy, sigmoid_loop), (cross_entropy, softmax_loop)])
@pytest.mark.parametrize(("images", "classes"), [(1, 1), (4, 3), (5, 10)])
def test_losses_equal_loops(
    loss: Loss, loop: Callable[[list[list[float]], list[list[float]]], float], images: int, classes: int
) -> None:
    logits, targets = scores(images, classes), soft_targets(images, classes)
    assert loss(logits, targets).item() == pytest.approx(loop(logits.tolist(), targets.tolist()), rel=1e-5, abs=1e-6)


def test_by_hand() -> None:
    logits = torch.tensor([[math.log(3), 0.0]])  # sigmoids 3/4 and 1/2; softmax 3/4, 1/4
    targets = torch.tensor([[1.0, 0.0]])
    assert binary_cross_entropy(logits, targets).item() == pytest.approx(math.log(8 / 3) / 2)
    assert cross_entropy(logits, targets).item() == pytest.approx(math.log(4 / 3))


def test_the_sigmoid_loss_is_a_mean_over_classes_too() -> None:
    """As published: a score's gradient is (sigmoid - target) / (B C), so it shrinks as classes arrive."""
    for classes in (2, 20):
        logits, targets = scores(4, classes).requires_grad_(), soft_targets(4, classes)
        (gradient,) = torch.autograd.grad(binary_cross_entropy(logits, targets), logits)
        torch.testing.assert_close(gradient, (logits.sigmoid() - targets) / (4 * classes))


def test_the_softmax_loss_is_a_mean_over_images_alone() -> None:
    for classes in (2, 20):
        logits, targets = scores(4, classes).requires_grad_(), soft_targets(4, classes)
        (gradient,) = torch.autograd.grad(cross_entropy(logits, targets), logits)
        torch.testing.assert_close(gradient, (logits.softmax(dim=-1) - targets) / 4)


@pytest.mark.parametrize(("loss", "expected"), [(binary_cross_entropy, 200.0), (cross_entropy, 400.0)])
def test_large_scores_are_no_infinity(loss: Loss, expected: float) -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    value = loss(logits, torch.tensor([[0.0, 1.0]]))
    assert value.item() == pytest.approx(expected)
    assert torch.autograd.grad(value, logits)[0].isfinite().all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_scores_are_cast_up(loss: Loss, dtype: torch.dtype) -> None:
    logits, targets = scores(5, 10).to(dtype).requires_grad_(), soft_targets(5, 10).to(dtype)
    value = loss(logits, targets)
    assert value.dtype == torch.float32
    assert value.item() == loss(logits.detach().float(), targets.float()).item()
    assert torch.autograd.grad(value, logits)[0].dtype == dtype


def test_old_classes_are_grouped_by_hand() -> None:
    targets = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    expected = torch.tensor([[0.3, 0.3, 0.4], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    torch.testing.assert_close(group_old(targets, 2), expected)
    assert group_old(targets, 3)[:, 1].tolist() == targets[:, 3].tolist()
    assert group_old(targets, 0)[:, 0].tolist() == [0.0, 0.0, 0.0]


def test_grouped_labels_are_the_published_ones() -> None:
    """Label below C_old -> 0, otherwise label - C_old + 1."""
    grouped = group_old(torch.eye(7), 4)
    assert grouped.shape == (7, 4)
    assert grouped.argmax(dim=1).tolist() == [0, 0, 0, 0, 1, 2, 3]
    assert grouped.sum(dim=1).tolist() == [1.0] * 7


# ---- weights of the images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_a_weight_is_as_many_copies_of_an_image(loss: Loss) -> None:
    logits, targets = scores(3, 4), soft_targets(3, 4)
    copies = torch.tensor([0, 0, 0, 1, 2])
    weighted = loss(logits, targets, torch.tensor([3.0, 1.0, 1.0]))  # type: ignore[call-arg]
    torch.testing.assert_close(weighted * 3, loss(logits[copies], targets[copies]) * 5)


@pytest.mark.parametrize("loss", LOSSES)
def test_equal_parts_of_a_weighted_batch_may_be_averaged(loss: Loss) -> None:
    """Their own sums of weights differ, and must not be divided by: processes would disagree with one."""
    logits, targets, weights = scores(4, 3), soft_targets(4, 3), torch.tensor([0.5, 0.5, 2.0, 1.0])
    halves = [loss(logits[part], targets[part], weights[part]) for part in (slice(0, 2), slice(2, 4))]  # type: ignore[call-arg]
    torch.testing.assert_close(torch.stack(halves).mean(), loss(logits, targets, weights))  # type: ignore[call-arg]


def test_the_loss_of_a_task_s_own_classes_is_weighted_too() -> None:
    logits, targets, own = scores(2, 5), torch.eye(5)[[3, 4]], slice(3, 5)
    alone = own_cross_entropy(logits[:1], targets[:1], own)
    weighted = own_cross_entropy(logits, targets, own, torch.tensor([2.0, 0.0]))
    torch.testing.assert_close(weighted, alone)
