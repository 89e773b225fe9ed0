"""Classifiers of networks of tokens: against loops over heads, and what their growth keeps and draws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from cl_lightning.core import rng
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.heads import IndependentHeads, JointHead, TaskClassifier

DIM, SIZES = 8, (3, 1, 4)
CLASSIFIERS = {
    "independent": lambda: IndependentHeads(DIM),
    "joint on all tokens": lambda: JointHead(DIM, input_grows=True),
    "joint on one token": lambda: JointHead(DIM, input_grows=False),
}


def grown(name: str, *sizes: int) -> TaskClassifier:
    """Every parameter moved away from where it starts."""
    classifier: TaskClassifier = CLASSIFIERS[name]()
    for index, size in enumerate(sizes):
        with torch_seeded(Key(index)):
            classifier.grow(size)
    with torch_seeded(Key(9)):
        for parameter in classifier.parameters():
            nn.init.normal_(parameter)
    return classifier


def embeddings(tasks: int) -> Tensor:
    return rng.normal(Key(4), torch.arange(5 * tasks * DIM)).view(5, tasks, DIM)


def embeddings_for(name: str, tasks: int) -> Tensor:
    return embeddings(1 if "one" in name else tasks)


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_scores_all_classes_and_splits_its_parameters(name: str) -> None:
    for tasks in range(1, len(SIZES) + 1):
        classifier = grown(name, *SIZES[:tasks])
        assert classifier.sizes() == list(SIZES[:tasks])
        assert classifier(embeddings_for(name, tasks)).shape == (5, sum(SIZES[:tasks]))
        split = classifier.old_parameters() + classifier.new_parameters()
        assert sorted(map(id, split)) == sorted(map(id, classifier.parameters()))
        assert bool(classifier.old_parameters()) == (name == "independent" and tasks > 1)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_learning_the_newest_task_reaches_all_that_it_trains_and_every_embedding(name: str) -> None:
    classifier = grown(name, *SIZES)
    e_BTD = embeddings_for(name, len(SIZES)).requires_grad_()
    for parameter in classifier.old_parameters():
        parameter.requires_grad_(False)
    classifier(e_BTD).sin().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in classifier.new_parameters())
    assert e_BTD.grad is not None
    assert e_BTD.grad.flatten(2).any(dim=2).all()


def test_heads_on_a_single_embedding_all_read_it() -> None:
    heads = grown("independent", *SIZES)
    assert isinstance(heads, IndependentHeads)
    e_B1D = embeddings(1)
    one_by_one = torch.cat([head(e_B1D[:, 0]) for head in heads.heads], dim=-1)
    torch.testing.assert_close(heads(e_B1D), one_by_one, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["joint on all tokens", "joint on one token"])
def test_a_joint_head_normalises_and_reads_everything_at_once(name: str) -> None:
    classifier, e_BTD = grown(name, *SIZES), embeddings_for(name, len(SIZES))
    weights = snapshot(classifier)
    assert list(weights) == ["joint.norm.weight", "joint.norm.bias", "joint.head.weight", "joint.head.bias"]
    scale, shift, weight, bias = weights.values()
    expected = torch.empty(5, sum(SIZES))
    for b, image in enumerate(e_BTD):
        x = image.reshape(-1)
        x = (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt() * scale + shift
        expected[b] = weight @ x + bias
    torch.testing.assert_close(classifier(e_BTD), expected, atol=1e-5, rtol=1e-5)


def test_a_joint_head_whose_input_stays_keeps_norm_and_old_rows() -> None:
    classifier = grown("joint on one token", 3, 2)
    before, old_scores = snapshot(classifier), classifier(embeddings(1))
    with torch_seeded(Key(5)):
        classifier.grow(4)
    after = snapshot(classifier)
    assert after["joint.head.weight"].shape == (9, DIM)
    for name, old in before.items():
        assert torch.equal(after[name][: len(old)], old), name
    torch.testing.assert_close(classifier(embeddings(1))[:, :5], old_scores)
    new_rows = after["joint.head.weight"][5:]
    assert new_rows.any(dim=1).all()
    assert new_rows.abs().max() <= DIM**-0.5, "as a linear layer draws its rows"


def test_a_joint_head_whose_input_grows_is_made_anew() -> None:
    classifier = grown("joint on all tokens", 3, 2)
    before = snapshot(classifier)
    with torch_seeded(Key(5)):
        classifier.grow(4)
    after = snapshot(classifier)
    assert after["joint.head.weight"].shape == (9, 3 * DIM)
    assert not torch.equal(after["joint.head.weight"][:5, : 2 * DIM], before["joint.head.weight"])
    assert torch.equal(after["joint.norm.weight"], torch.ones(3 * DIM))
    assert torch.equal(after["joint.norm.bias"], torch.zeros(3 * DIM))
