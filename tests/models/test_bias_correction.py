"""The corrected classifier: what growth keeps, and what is corrected."""

from __future__ import annotations

import pytest
import torch

from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.models.bias_correction import BiasCorrectedLinear
from cl_lightning.models.heads import GrowingLinear

EMBEDDINGS = rng.normal(Key(1), torch.arange(6 * 4)).view(6, 4)


def grown(*sizes: int, every: bool) -> BiasCorrectedLinear:
    with rng.torch_seeded(Key(0)):
        head = BiasCorrectedLinear(4, every=every)
        for size in sizes:
            head.grow(size)
    return head


@pytest.mark.parametrize("every", [False, True])
def test_without_corrections_it_is_a_linear_classifier(every: bool) -> None:
    with rng.torch_seeded(Key(0)):
        plain = GrowingLinear(4)
        for size in (3, 2):
            plain.grow(size)
    assert torch.equal(grown(3, 2, every=every)(EMBEDDINGS), plain(EMBEDDINGS))


@pytest.mark.parametrize("every", [False, True])
def test_the_newest_task_alone_is_corrected_by_the_newest_pair(every: bool) -> None:
    head = grown(3, 2, every=every)
    raw = head(EMBEDDINGS).detach()
    head.newest.data.copy_(torch.tensor([0.5, -0.25]))
    corrected = head(EMBEDDINGS).detach()
    assert torch.equal(corrected[:, :3], raw[:, :3])
    torch.testing.assert_close(corrected[:, 3:], 0.5 * raw[:, 3:] - 0.25)


def test_growth_retires_a_pair_or_keeps_it() -> None:
    for every in (False, True):
        head = grown(3, 2, every=every)
        head.newest.data.copy_(torch.tensor([0.5, -0.25]))
        before = head(EMBEDDINGS).detach()
        head.grow(4)
        after, raw = head(EMBEDDINGS).detach(), head.linear(EMBEDDINGS).detach()
        assert torch.equal(after[:, 5:], raw[:, 5:]), "a new pair changes nothing"
        torch.testing.assert_close(after[:, :5], before if every else raw[:, :5])


def test_each_parameter_is_in_one_part() -> None:
    head = grown(3, 2, 1, every=True)
    parts = head.parts()
    assert [len(parts[name]) for name in ("classifier", "old_corrections", "correction")] == [2, 2, 1]
    assert {id(p) for part in parts.values() for p in part} == {id(p) for p in head.parameters()}
    assert parts["correction"][0] is head.newest
    assert head.structure() == {"head": "bias_corrected", "every_pair": True}


def test_half_precision_scores_are_corrected_in_float32() -> None:
    head = grown(2, 2, every=False)
    assert head.correct(torch.ones(3, 4, dtype=torch.bfloat16)).dtype == torch.float32
