"""Settings of a run, flat: what is told of them, what may be typed for them, and in which they differ."""

from __future__ import annotations

from typing import Any

import pytest

from cl_lightning.compare.settings import (
    ABSENT,
    differing,
    distinct,
    format_value,
    from_config,
    from_images,
    from_protocol,
    is_meant,
    value_of,
)  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("a", None, "null"),
        ("a", True, "true"),
        ("a", 3, "3"),
        ("a", 0.25, "0.25"),
        ("a", "x", "x"),
        ("a", [1, 2], "[1, 2]"),
        ("tasks", [2, 2, 2, 2, 2], "5x2"),
        ("tasks", [50, 10, 10], "50+2x10"),
        ("tasks", [4], "4"),
        ("tasks", [2, 3, 2], "2+3+2"),
        ("trained_on", "1234567890", "12345678"),
        ("trained_on", ABSENT, ABSENT),
        ("class_names", ["a", "b", "c"], '["a", "b", "c"]'),
    ],
)
def test_a_value_as_it_is_shown_may_be_typed(key: str, value: Any, text: str) -> None:
    assert format_value(key, value) == text
    assert is_meant(key, value, text)


def test_many_names_are_told_apart_by_a_checksum() -> None:
    one, other = (format_value("class_names", ["a", "b", "c", last]) for last in "de")
    assert one.startswith("a, b, c ... (4 names, checksum ")
    assert one != other


@pytest.mark.parametrize(
    ("value", "typed", "meant"),
    [
        (0.5, "5.0e-1", True),
        (1.0, "1", True),
        (None, "~", True),
        ([1, 2], "[1,2]", True),
        (True, "1", False),
        (1, "true", False),
        ("1", "1", True),
        (3, "[", False),
    ],
)
def test_what_yaml_reads_is_meant_and_a_truth_value_is_no_number(value: Any, typed: str, meant: bool) -> None:
    assert is_meant("a", value, typed) is meant


def test_a_protocol_by_the_names_that_are_typed() -> None:
    found = from_protocol(
        {
            "method": "dytox", "seed": 3, "order": "identity", "memory": "20 in total", "evaluation": "x",
            "readout": "y",
            "method_options": {"temperature": 1.0, "finetuning": {"epochs": 20}, "mixup": None},
            "recipe_switches": {"schedule_lag": True},
        }
    )  # fmt: skip
    assert found == {
        "method": "dytox", "memory": "20 in total", "method.temperature": 1.0, "method.finetuning.epochs": 20,
        "method.mixup": None, "recipe.schedule_lag": True,
    }  # fmt: skip


def test_digests_of_the_images_that_are_recorded() -> None:
    identity = {"train": "aa", "validation": "bb", "test": "cc"}
    assert from_images({"data_identity": identity, "protocol": {}}) == {"trained_on": "aa", "evaluated_on": "cc"}
    assert from_images({"data_identity": identity, "protocol": {"evaluates_on": "validation"}})["evaluated_on"] == "bb"
    assert from_images({"data_identity": {**identity, "test": None}, "protocol": {}}) == {"trained_on": "aa"}
    assert from_images({"protocol": {}}) == {}


def test_of_a_configuration_what_the_protocol_does_not_tell() -> None:
    config = {
        "data.image_size": 8, "data.name": "digits", "data.increment": 2, "model.dim": 64, "model.name": "x", "seed": 1,
        "data.orientation": "ignore",
    }  # fmt: skip
    assert from_config(config) == {"data.image_size": 8, "model.dim": 64}
    preprocess = {
        f"data.preprocess.{name}": 1 for name in ("size", "resize", "crop_share", "interpolation", "normalise")
    }
    assert from_config(preprocess) == {}, "the protocol has it in words"
    assert from_config({"data.orientation": "apply"}) == {"data.orientation": "apply"}


def test_a_group_of_options_is_set_where_others_have_null() -> None:
    assert value_of({"method.mixup.alpha": 0.8}, "method.mixup") == "set"
    assert value_of({"method.mixup": None}, "method.mixup") is None
    assert value_of({}, "method.mixup") == ABSENT


def test_a_group_that_is_null_anywhere_stands_for_its_options() -> None:
    one = {"method": "a", "method.mixup.alpha": 0.8, "method.mixup.smoothing": 0.1}
    assert differing([one, {"method": "a", "method.mixup": None}]) == ["method.mixup"]
    assert differing([one, {**one, "method.mixup.alpha": 0.2}]) == ["method.mixup.alpha"]
    assert differing([one, one]) == []


def test_the_most_telling_keys_come_first() -> None:
    one = {
        "batch": 1, "model.dim": 1, "recipe": "a", "method": "a", "method.temperature": 1, "method.main.epochs": 1,
        "method.main.lr": 1, "epochs": "a",
    }  # fmt: skip
    other = {key: 2 if isinstance(value, int) else "b" for key, value in one.items()}
    assert differing([one, other]) == [
        "method", "recipe", "method.temperature", "epochs", "batch", "method.main.epochs", "method.main.lr", "model.dim"
    ]  # fmt: skip


def test_distinct_values_in_order_of_appearance() -> None:
    assert distinct([{"a": 2}, {"a": 1}, {"a": 2}, {}, {"a": True}], "a") == [2, 1, ABSENT, True]
