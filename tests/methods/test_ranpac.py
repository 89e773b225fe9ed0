"""RanPAC's own promises: the published sums, lambda and scores; one answer for any order; and sums are all it needs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Task
from cl_lightning.methods import ranpac, ridge
from cl_lightning.methods.frozen_features import Source
from cl_lightning.methods.ranpac import RanPAC
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.frozen_heads import ProjectedRidge
from tests.methods.frozen import Golden, Identity, golden, learn, scores

M = 96


@pytest.fixture(scope="module")
def published() -> Golden:
    return golden("ranpac_small.npz")


def learner(projection: int = M, *, all_tasks: bool = False, seed: int = 0) -> RanPAC:
    head = ProjectedRidge(16, projection, seed=seed)
    return RanPAC(EmbeddingNetwork(Identity(dim=16), head=head), Source(None, None), all_tasks_choose=all_tasks)


def as_published(method: RanPAC, published: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give it the published W, and the first rows of a task to fit to."""
    head: Any = method.network.classifier
    if head.projection is not None:
        head.projection = published.entries["W"]
    monkeypatch.setattr(ranpac, "fitted_part", lambda rows, key: rows < rows.min() + int(0.8 * len(rows)))


@pytest.mark.parametrize(("variant", "projection"), [("ranpac", M), ("no_projection", 0)])
def test_after_each_task_it_is_the_published_one(
    variant: str, projection: int, published: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = learner(projection)
    as_published(method, published, monkeypatch)
    for task in published.tasks:
        learn(method, published, task)
        theirs = {
            name: published.entries[f"task{task.index}/{variant}/{name}"]
            for name in ("G", "lambda_float64", "W_o_float64", "scores", "predictions")
        }
        assert method.lambdas[-1] == theirs["lambda_float64"].item()
        torch.testing.assert_close(method.sums[0].gram.float(), theirs["G"], rtol=1e-4, atol=0.1)
        rows = method.network.classifier.rows.data
        torch.testing.assert_close(rows, theirs["W_o_float64"].float(), rtol=1e-5, atol=1e-6)
        found = scores(method, published.test(task.num_seen))
        torch.testing.assert_close(found, theirs["scores"], rtol=0, atol=2e-4)
        assert torch.equal(found.argmax(dim=1), theirs["predictions"])


def test_all_tasks_may_choose_lambda(published: Golden) -> None:
    """By hand: both parts of all tasks, a system for each lambda."""
    method = learner(0, all_tasks=True)
    parts: list[list[Tensor]] = [[], []]
    for task in published.tasks:
        learn(method, published, task)
        fits = ranpac.fitted_part(task.train, Key(method.network.classifier.seed).fold("held out", task.index))
        parts[0].append(task.train[fits])
        parts[1].append(task.train[~fits])
    fit, held = (torch.cat(rows) for rows in parts)
    assert len(fit) == sum(int(0.8 * len(task.train)) for task in published.tasks)
    f, targets = published.features.double(), torch.eye(7, dtype=torch.float64)[published.labels]
    losses = []
    for value in ridge.LAMBDAS:
        system = f[fit].T @ f[fit] + value * torch.eye(16, dtype=torch.float64)
        a = torch.linalg.solve(system, f[fit].T @ targets[fit])
        losses.append(((f[held] @ a - targets[held]) ** 2).mean().item())
    assert method.lambdas[-1] == ridge.best_lambda(losses)
    system = f.T @ f + method.lambdas[-1] * torch.eye(16, dtype=torch.float64)
    expected = torch.linalg.solve(system, f.T @ targets).T.float()
    torch.testing.assert_close(method.network.classifier.rows.data, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("all_tasks", [False, True])
def test_batches_and_the_order_of_images_change_nothing_but_rounding(all_tasks: bool, published: Golden) -> None:
    shuffled = golden("ranpac_small.npz")
    shuffled.batch, shuffled.order = 7, torch.randperm(160, generator=torch.Generator().manual_seed(0))
    one, other = learner(all_tasks=all_tasks), learner(all_tasks=all_tasks)
    for task in published.tasks:
        learn(one, published, task)
        learn(other, shuffled, task)
    assert other.lambdas == one.lambdas, "the same images are set aside"
    rows = [method.network.classifier.rows.data for method in (other, one)]
    torch.testing.assert_close(*rows, rtol=1e-4, atol=1e-7)


def test_four_fifths_are_fitted_to_and_the_key_says_which() -> None:
    rows = torch.arange(1000)
    fits = ranpac.fitted_part(rows, Key(0))
    assert int(fits.sum()) == 800
    assert torch.equal(fits.flip(0), ranpac.fitted_part(rows.flip(0), Key(0))), "an image's part is its own"
    assert not torch.equal(fits, ranpac.fitted_part(rows, Key(1)))


def test_a_task_of_one_image_keeps_lambda() -> None:
    look = golden("ranpac_small.npz")
    first, second, _ = look.tasks
    alone = look.rows_of(3)[:1]
    look.labels = torch.where((look.labels == 3) & (torch.arange(160) != alone), -1, look.labels)
    single = Task(1, (3,), ("3",), alone, alone)
    method = learner()
    learn(method, look, first)
    learn(method, look, single)
    assert method.lambdas[1] == method.lambdas[0]
    at_once = learner()
    look.labels = torch.where(look.labels == 3, 0, -1)
    learn(at_once, look, Task(0, (0,), ("0",), alone, alone))
    assert at_once.lambdas == [1.0]
    assert scores(at_once, look.test(1)).isfinite().all()
    assert second.num_old == 3


@pytest.mark.parametrize("all_tasks", [False, True])
def test_sums_are_all_that_the_next_task_needs(all_tasks: bool, published: Golden) -> None:
    whole, before = learner(all_tasks=all_tasks), learner(all_tasks=all_tasks)
    for task in published.tasks[:2]:
        learn(whole, published, task)
        learn(before, published, task)
    state = before.extra_state()
    assert state["gram"].shape == (M * (M + 1) // 2,), "half of a symmetric matrix"
    again = learner(all_tasks=all_tasks)
    for task in published.tasks[:2]:
        again.network.grow(task.num_new, Key(5))
    again.load_extra_state(state)
    for method in (whole, again):
        learn(method, published, published.tasks[2])
    assert torch.equal(again.network.classifier.rows, whole.network.classifier.rows)
    assert again.lambdas == whole.lambdas


def test_a_state_of_other_sums_is_refused(published: Golden) -> None:
    method = learner()
    learn(method, published, published.tasks[0])
    for other in (learner(7), learner(all_tasks=True)):
        with pytest.raises(InvalidFileError, match=r"its own method\.ridge and method\.projection"):
            other.load_extra_state(method.extra_state())
    with pytest.raises(InvalidFileError, match=r"state of nothing is not 1 sums of 96 features"):
        method.load_extra_state({})
