"""Herding against numbers of the published implementation and against slow loops that follow the papers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cl_lightning.core.rng import Key, normal, permutation
from cl_lightning.memory import herding
from cl_lightning.memory.herding import herd, herd_distinct

GOLDEN = Path(__file__).parents[1] / "golden" / "recipe_herding.npz"


def slow_herd(features: Tensor, count: int, max_iterations: int = 1000, normalised: bool = True) -> list[int]:
    """The published rule, literally, in float64."""
    d = features.double().numpy()
    d = d / (np.linalg.norm(d, axis=1, keepdims=True) + 1e-8) if normalised else d
    mean = d.mean(axis=0)
    w, chosen = mean.copy(), []
    for _ in range(max_iterations):
        if len(chosen) == min(count, len(d)):
            break
        row = int(np.argmax(d @ w))
        if row not in chosen:
            chosen.append(row)
        w = w + mean - d[row]
    return (chosen + [row for row in range(len(d)) if row not in chosen])[: min(count, len(d))]


def slow_distinct(features: Tensor, count: int, normalised: bool = True) -> list[int]:
    """iCaRL's algorithm 4, literally: all differences at every step."""
    d = features.double().numpy()
    d = d / (np.linalg.norm(d, axis=1, keepdims=True) + 1e-8) if normalised else d
    mean, total, chosen = d.mean(axis=0), np.zeros(d.shape[1]), []
    for k in range(min(count, len(d))):
        distance = np.linalg.norm(mean - (total + d) / (k + 1), axis=1)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
        total = total + d[chosen[-1]]
    return chosen


def draw(seed: int, rows: int, size: int, shift: float = 0.0) -> Tensor:
    key = Key(seed).fold("test features")
    centre = normal(key.fold("centre"), torch.arange(size))
    return normal(key, torch.arange(rows)[:, None], torch.arange(size)) + shift * centre


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 5, 20, 50])
@pytest.mark.parametrize("case", [0, 1, 2])
def test_ranks_of_the_published_implementation(case, count, dtype):
    golden = np.load(GOLDEN)
    features = torch.from_numpy(golden[f"herding{case}/features"]).to(dtype)
    assert herd(features, count).tolist() == golden[f"herding{case}/select{count}"].tolist()


@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize(
    ("rows", "size", "count"), [(30, 4, 30), (40, 3, 12), (120, 64, 60), (60, 700, 60), (1, 5, 3), (7, 1, 7)]
)
def test_ranks_of_the_literal_rules(rows, size, count, shift):
    features = draw(rows, rows, size, shift)
    assert herd(features, count).tolist() == slow_herd(features, count)
    assert herd_distinct(features, count).tolist() == slow_distinct(features, count)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize(("rows", "size", "count"), [(30, 4, 30), (120, 64, 60), (60, 700, 60), (1, 5, 3)])
def test_ranks_of_features_as_they_are(rows, size, count, scale):
    """Rows of lengths over two decades, whatever the unit of all of them."""
    lengths = 10 ** torch.linspace(-1, 1, rows).flip(0)[:, None]
    features = scale * lengths * draw(rows, rows, size, 1.0)
    assert herd(features, count, normalised=False).tolist() == slow_herd(features, count, normalised=False)
    ranks = herd_distinct(features, count, normalised=False).tolist()
    assert ranks == slow_distinct(features, count, normalised=False)
    assert rows == 1 or ranks != herd_distinct(features, count).tolist(), "lengths count"


def test_exemplars_of_bic_s_authors():
    """Chosen by the lines of their code, from features as they are (tests/golden/README.md)."""
    golden = np.load(GOLDEN.with_name("bic.npz"))
    features, labels = (torch.from_numpy(golden[f"herding/{name}"]) for name in ("features", "labels"))
    for label, chosen in enumerate(golden["herding/chosen_rows_best_first"]):
        own = torch.nonzero(labels == label).flatten()
        assert own[herd_distinct(features[own], len(chosen), normalised=False)].tolist() == chosen.tolist()


def test_a_row_may_win_again_only_under_the_published_rule():
    features = draw(3, 40, 3, 1.0)
    assert herd(features, 20).tolist() != herd_distinct(features, 20).tolist()


def test_more_wanted_than_there_are_gives_all_once():
    features = draw(1, 9, 6)
    assert sorted(herd(features, 50).tolist()) == sorted(herd_distinct(features, 50).tolist()) == list(range(9))


def test_ranks_left_open_go_to_the_rows_in_order():
    # Two opposite groups of equal rows: the search goes to and fro between rows 0 and 2 for ever.
    features = torch.tensor([[1.0, 0.1], [1.0, 0.1], [-1.0, 0.1], [-1.0, 0.1], [1.0, 0.1]])
    assert herd(features, 5).tolist() == [0, 2, 1, 3, 4]
    assert herd(features, 5, max_iterations=1).tolist() == [0, 1, 2, 3, 4]
    assert herd_distinct(features, 5).tolist() == [0, 2, 1, 3, 4]


def test_equal_rows_and_dead_features_go_by_row():
    assert herd(torch.ones(6, 4), 3).tolist() == [0, 1, 2]
    assert herd(torch.zeros(6, 4), 3).tolist() == [0, 1, 2]
    assert herd_distinct(torch.zeros(6, 4), 3).tolist() == [0, 1, 2]


@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 12), st.sampled_from([0.0, 0.5, 3.0]))
@settings(max_examples=60, deadline=None)
def test_a_smaller_count_is_a_prefix_and_rows_are_distinct(seed, rows, size, shift):
    features = draw(seed, rows, size, shift)
    ranks = herd(features, rows).tolist()
    assert sorted(ranks) == list(range(rows))
    for count in (0, 1, rows // 2):
        assert herd(features, count).tolist() == ranks[:count]


@given(st.integers(0, 10**6), st.integers(3, 40), st.integers(3, 12), st.sampled_from([herd, herd_distinct]))
@settings(max_examples=60, deadline=None)
def test_shuffling_images_shuffles_ranks(seed, rows, size, rule):
    features = draw(seed, rows, size, 0.5)
    order = permutation(Key(seed).fold("order"), rows)
    count = min(rows, 12)
    assert order[rule(features[order], count)].tolist() == rule(features, count).tolist()


@given(st.integers(0, 10**6), st.integers(2, 30), st.sampled_from([1e-9, 1e-8, 1e-7]))
@settings(max_examples=40, deadline=None)
def test_rows_that_float32_cannot_tell_apart_are_ranked_by_float64(seed, rows, noise):
    # All rows nearly equal: float32 products are ties or worse.
    features = draw(seed, 1, 16).double() + noise * draw(seed + 1, rows, 16).double()
    assert herd_distinct(features, rows // 2).tolist() == slow_distinct_by_products(features, rows // 2)


def slow_distinct_by_products(features: Tensor, count: int) -> list[int]:
    """iCaRL's rule in extended precision: differences of squares would cancel in float64."""
    d = features.numpy().astype(np.longdouble)
    d = d / (np.sqrt((d * d).sum(axis=1, keepdims=True)) + np.longdouble(1e-8))
    mean, total, chosen = d.mean(axis=0), np.zeros(d.shape[1], np.longdouble), []
    for k in range(count):
        score = (d * ((k + 1) * mean - total)).sum(axis=1) - (d * d).sum(axis=1) / 2
        score[chosen] = -np.inf
        chosen.append(int((score >= score.max() - 1e-13 * (k + 1)).argmax()))
        total = total + d[chosen[-1]]
    return chosen


@pytest.mark.parametrize("power", [1, 2, 5])
@pytest.mark.parametrize("size", [8, 384, 3840])
def test_the_error_bound_of_float32_scores_holds_with_room(size, power):
    features = draw(size, 60, size) ** power
    quick = herding.QuickProducts(features)
    rows = features.double().numpy()
    rows = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-8)
    error = np.abs(quick.with_mean - rows @ rows.mean(axis=0)).max()
    error += max(np.abs(quick.column(row) - rows @ rows[row]).max() for row in range(60))
    assert 0 < error < quick.error_per_turn / 2


def test_half_precision_and_strided_features_are_accepted():
    features = draw(5, 20, 32).to(torch.bfloat16)
    assert herd(features, 8).tolist() == slow_herd(features.float(), 8)
    wide = draw(6, 20, 64)
    assert herd(wide[:, ::2], 8).tolist() == slow_herd(wide[:, ::2].contiguous(), 8)


def test_wrong_input_is_one_clear_line():
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        herd(torch.zeros(3), 1)
    with pytest.raises(ValueError, match="int64 features"):
        herd(torch.zeros(3, 2, dtype=torch.int64), 1)
    with pytest.raises(ValueError, match="-1 exemplars"):
        herd(torch.zeros(3, 2), -1)
    with pytest.raises(FloatingPointError, match="not finite"):
        herd(torch.tensor([[0.0, 1.0], [float("nan"), 0.0]]), 1)
