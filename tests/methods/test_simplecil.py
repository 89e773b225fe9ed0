"""SimpleCIL's own promises: the published means and cosines, from sums in any order, and no old score moves."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Batch, Fit
from cl_lightning.methods.frozen_features import Source
from cl_lightning.methods.simplecil import SimpleCIL
from cl_lightning.models.embedding_network import EmbeddingNetwork
from cl_lightning.models.frozen_heads import MeanCosines
from tests.methods.frozen import MAIN, Golden, Identity, golden, learn, scores


def learner() -> SimpleCIL:
    return SimpleCIL(EmbeddingNetwork(Identity(dim=16), head=MeanCosines(16)), Source(None, None))


@pytest.fixture(scope="module")
def published() -> Golden:
    return golden("simplecil_small.npz")


def test_after_each_task_it_is_the_published_one(published: Golden) -> None:
    method = learner()
    for task in published.tasks:
        learn(method, published, task)
        entries = {name: published.entries[f"task{task.index}/{name}"] for name in ("prototypes", "scores")}
        torch.testing.assert_close(method.network.classifier.rows.data, entries["prototypes"], rtol=1e-6, atol=1e-6)
        found = scores(method, published.test(task.num_seen))
        torch.testing.assert_close(found, entries["scores"], rtol=1e-5, atol=1e-6)
        assert torch.equal(found.argmax(dim=1), published.entries[f"task{task.index}/predictions"])


def test_scores_of_old_classes_never_move(published: Golden) -> None:
    method, images = learner(), published.test(7)
    before = torch.empty(len(images), 0)
    for task in published.tasks:
        learn(method, published, task)
        after = scores(method, images)
        torch.testing.assert_close(after[:, : task.num_old], before, rtol=0, atol=5e-7)
        before = after


def test_batches_and_the_order_of_images_change_nothing_but_rounding(published: Golden) -> None:
    shuffled = golden("simplecil_small.npz")
    shuffled.batch, shuffled.order = 7, torch.randperm(160, generator=torch.Generator().manual_seed(0))
    one, other = learner(), learner()
    for task in published.tasks:
        learn(one, published, task)
        learn(other, shuffled, task)
    torch.testing.assert_close(other.sums, one.sums, rtol=1e-13, atol=1e-12)
    assert torch.equal(other.counts, one.counts)


def test_plans() -> None:
    first, second, _ = golden("simplecil_small.npz").tasks
    assert not any(isinstance(item, Fit) for item in learner().plan(first))
    trains = SimpleCIL(learner().network, Source(MAIN, None))
    assert [item.phase.name for item in trains.plan(first) if isinstance(item, Fit)] == ["backbone"]
    assert trains.plan(second) == learner().plan(second), "only the first task trains the backbone"


def test_the_first_task_learns_by_cross_entropy_of_a_linear_classifier(published: Golden) -> None:
    network = EmbeddingNetwork(Identity(dim=16), head=MeanCosines(16, linear=True))
    method, task = SimpleCIL(network, Source(MAIN, None)), published.tasks[0]
    method.grow(task, Key(0), published)
    images, labels = published.features[:5][:, None, None], published.labels[:5]
    batch = Batch(images, labels, torch.eye(3)[labels])
    assert method.pending_readouts() == frozenset(), "the linear classifier scores all classes"
    outputs = method.outputs(MAIN, images, None)
    expected = torch.nn.functional.cross_entropy(network.classifier.linear(images.flatten(1)), labels)
    assert torch.equal(method.losses(task, MAIN, batch, outputs)["classification"], expected)
    method.act("accumulate", task, published)
    assert network.classifier.linear is None
    method.grow(published.tasks[1], Key(0), published)
    assert method.pending_readouts() == {"linear"}, "new classes have no mean yet"


def test_scores_rank_only() -> None:
    (readout,) = learner().readouts().values()
    assert readout.ranks_only
    with pytest.raises(ValueError, match="no probabilities"):
        readout.probabilities(torch.zeros(1, 2))


def test_a_state_of_something_else_is_refused(published: Golden) -> None:
    method = learner()
    learn(method, published, published.tasks[0])
    again = learner()
    again.load_extra_state(method.extra_state())
    assert torch.equal(again.sums, method.sums)
    for state in ({}, {"class_means": torch.zeros(3, 16)}, {"sums": torch.zeros(3, 5), "counts": torch.ones(3)}):
        with pytest.raises(InvalidFileError, match=r"is not sums of 16 features .*resume a run of method=simplecil"):
            again.load_extra_state(state)
