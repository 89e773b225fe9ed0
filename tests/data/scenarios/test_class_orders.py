"""Class orders: the published lists as published, and wrong lists refused by name."""

from __future__ import annotations

import re

import numpy as np
import pytest

from cl_lightning.data.scenarios.class_orders import class_order

PUBLISHED = [("cifar100", 1), ("cifar100", 2), ("cifar100", 3), ("imagenet100", 1), ("imagenet1000", 1)]


@pytest.mark.parametrize(("dataset", "number"), PUBLISHED)
def test_published_orders_are_permutations(dataset: str, number: int) -> None:
    size = 1000 if dataset == "imagenet1000" else 100
    assert sorted(class_order(dataset, number, size)) == list(range(size))


def test_published_orders_begin_and_end_as_in_the_papers() -> None:
    ends = {
        1: ([87, 0, 52, 58, 44, 91, 68, 97, 51, 15], [26, 35, 39]),
        2: ([58, 30, 93, 69, 21, 77, 3, 78, 12, 71], [23, 64, 61]),
        3: ([71, 54, 45, 32, 4, 8, 48, 66, 1, 91], [85, 43, 11]),
    }
    for number, (first, last) in ends.items():
        order = class_order("cifar100", number, 100)
        assert list(order[:10]) == first
        assert list(order[-3:]) == last
        assert order == class_order("cifar100", str(number), 100)


@pytest.mark.parametrize("size", [100, 1000])
def test_imagenet_orders_are_the_permutation_of_seed_1993(size: int) -> None:
    assert class_order(f"imagenet{size}", 1, size) == class_order("anything", "seed:1993", size)


def test_seeded_order_is_numpys_and_leaves_the_global_stream_alone() -> None:
    before = np.random.get_state(legacy=False)
    order = class_order("digits", "seed:7", 10)
    assert str(np.random.get_state(legacy=False)) == str(before)
    assert order == tuple(np.random.RandomState(7).permutation(10).tolist())
    assert class_order("digits", "seed:1993", 10) == (4, 2, 7, 6, 0, 3, 5, 8, 9, 1)


def test_identity_and_lists() -> None:
    assert class_order("digits", "identity", 4) == (0, 1, 2, 3)
    assert class_order("digits", [2, 0, 3, 1], 4) == (2, 0, 3, 1)


@pytest.mark.parametrize(
    ("order", "fault"),
    [
        ([0, 1, 2, 3, 4, 5, 6, 3, 8, 9], "order has 3 twice and lacks 7:"),
        ([0, 1, 2, 3, 4, 5, 6, 8, 9], "order lacks 7:"),
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9], "order has 9 (3 times):"),
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 10], "order has 10 (not a class) and lacks 9:"),
        ([0, True, 2.0, 3, 4, 5, 6, 7, 8, 9], "order has True, 2.0 (not a class) and lacks 1, 2:"),
        ([0], "order lacks 1, 2, 3, 4, 5 and 4 more:"),
    ],
)
def test_wrong_lists_are_refused_by_what_is_wrong_with_them(order: list[int], fault: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(fault)} pass order=[^\n]*$"):
        class_order("digits", order, 10)


@pytest.mark.parametrize("spec", ["random", 4, 0, True, "seed:", "seed:-1", "seed:4294967296", "", "order1"])
def test_unknown_orders_are_refused_with_the_allowed_ones(spec: str | int) -> None:
    with pytest.raises(ValueError, match=r"pass order=identity, 1, 2, 3, seed:N") as refusal:
        class_order("cifar100", spec, 100)
    assert str(refusal.value).startswith(f"order={spec} is no class order of cifar100")


def test_data_sets_without_published_orders_offer_none() -> None:
    with pytest.raises(ValueError, match=r"order=1 .*: pass order=identity, seed:N"):
        class_order("digits", 1, 10)


PETS = ("caf\u00e9", "cat", "dog", "Red owl")


def test_classes_may_be_named() -> None:
    assert class_order("pets", ["dog", "cat", "Red owl", "cafe\u0301"], 4, PETS) == (2, 1, 3, 0)
    assert class_order("pets", [2, 1, 3, 0], 4, PETS) == (2, 1, 3, 0)


def test_numbers_stay_indices_where_classes_are_called_by_numbers() -> None:
    names = ("7", "3", "0")
    assert class_order("digits", [2, 1, 0], 3, names) == (2, 1, 0)
    assert class_order("digits", ["3", "0", "7"], 3, names) == (1, 2, 0)


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (["dog", "cat", "Red owl", "cafe"], "order has cafe, no class of it (did you mean caf\u00e9?): pass"),
        (["dog", "cat", "redowl", "x"], "order has redowl, no class of it (did you mean Red owl?): pass"),
        (["dog", "wolverine"], "order has wolverine, no class of it (caf\u00e9, cat, dog, Red owl): pass"),
        (
            ["dog", "cat", "dog"],
            "order has dog twice and lacks caf\u00e9, Red owl: pass order=[...] with",
        ),
        (
            ["dog", 3],
            """order has numbers and names, 3 and dog: take names alone, or each of 0..3, or pass order=["3",...]""",
        ),
    ],
)
def test_wrong_names_are_reported_in_one_line(order: list[int | str], told: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(told)}[^\n]*$"):
        class_order("pets", order, 4, PETS)
