"""Checks of plain values that others may have written: each passes what we write, and says where anything else is."""

from __future__ import annotations

import math
from typing import Any

import pytest
import yaml

from cl_lightning.core import json_schema
from cl_lightning.core.json_schema import (
    LARGEST,
    Check,
    boolean,
    either,
    in_words,
    list_of,
    mapping_of,
    maybe,
    number,
    one_of,
    plain,
    read_json,
    read_yaml,
    record,
    text,
    whole,
)  # fmt: skip

NESTED: Any = []
for _ in range(66):
    NESTED = [NESTED]


# ---- reading -----------------------------------------------------------------------------------------------------


def test_json_is_read_as_it_is() -> None:
    assert read_json(b'{"a": [1, 2.5, null, true, "x"]}', "f") == {"a": [1, 2.5, None, True, "x"]}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"a": 1, "a": 2}', "f is not what was written (a name stands twice in one place)"),
        ("[NaN]", "f is not what was written (NaN is no number of JSON)"),
        ("[-Infinity]", "f is not what was written (-Infinity is no number of JSON)"),
        ("{", "f is not what was written (Expecting property name"),
        ("[" * 200_000, "f is nested too deeply"),
    ],
    ids=["twice", "nan", "infinity", "cut", "deep"],
)
def test_what_is_no_json_of_ours_is_refused(content: str, line: str) -> None:
    with pytest.raises(ValueError) as refused:
        read_json(content, "f")
    assert str(refused.value).startswith(line)


def test_yaml_is_read_as_it_is() -> None:
    assert read_yaml("a: [1, 2.5, null, true, x]\nb: {c: d}") == {"a": [1, 2.5, None, True, "x"], "b": {"c": "d"}}
    assert read_yaml("a: &x [1]\nb: *x") == {"a": [1], "b": [1]}, "a reference is a value"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a: 1\na: 2", "a key stands twice in one place"),
        ("1: a", "it has the key 1, which is no text"),
        ("a: 2026-01-01", "it holds 2026-01-01, a date"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: &x [*x]", "it is nested too deeply or refers to itself"),
        ("a: 2026-99-99", "month must be in 1..12"),
    ],
    ids=["twice", "key", "date", "code", "itself", "no date"],
)
def test_what_is_no_yaml_of_ours_is_refused(content: str, line: str) -> None:
    with pytest.raises(yaml.YAMLError, match=line):
        read_yaml(content)


def test_yaml_that_grows_by_references_is_refused_before_anything_copies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_schema, "MOST_VALUES", 1000)
    lists = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 4)]
    assert len(read_yaml("\n".join(["a0: &a0 [x]", *lists[:2]]))) == 3
    with pytest.raises(yaml.YAMLError, match="it is nested too deeply or refers to itself"):
        read_yaml("\n".join(["a0: &a0 [x]", *lists]))


# ---- checks ------------------------------------------------------------------------------------------------------

OBJECT = record({"name": text, "sizes": list_of(whole(1, 9)), "note": maybe(text)}, optional=("note",))

PASSING: list[tuple[Check, Any]] = [
    (text, ""),
    (boolean, False),
    (number, -2.5),
    (number, 10**30),
    (whole(), 0),
    (whole(), LARGEST),
    (whole(-3, 3), -3),
    (maybe(text), None),
    (maybe(text), "x"),
    (either(text, whole()), 3),
    (one_of(1, "x", None), None),
    (one_of(True, "x"), True),
    (list_of(text), []),
    (list_of(text, 2), ["a", "b"]),
    (list_of(text, kinds=(list, tuple)), ("a",)),
    (mapping_of(number), {"a": 1, "b": 2.5}),
    (mapping_of(number, key=whole()), {3: 1}),
    (OBJECT, {"name": "a", "sizes": [1, 9]}),
    (OBJECT, {"name": "a", "sizes": [], "note": None}),
    (record({"a": text}, more=True), {"a": "x", "b": 3}),
    (plain, {"a": [1, (2.5, None)], "b": {"c": True}}),
]
REFUSED: list[tuple[Check, Any, str]] = [
    (text, 3, "f is 3, not text"),
    (boolean, 1, "f is 1, not true or false"),
    (number, True, "f is True, not a number"),
    (number, math.nan, "f is nan, not a number"),
    (number, math.inf, "f is inf, not a number"),
    (number, "3", "f is '3', not a number"),
    (whole(), -1, "f is -1, not a whole number from 0 on"),
    (whole(), 1.0, "f is 1.0, not a whole number from 0 on"),
    (whole(), True, "f is True, not a whole number from 0 on"),
    (whole(), LARGEST + 1, f"f is {LARGEST + 1}, not a whole number from 0 on"),
    (whole(1, 9), 10, "f is 10, not a whole number from 1 to 9"),
    (maybe(text), 3, "f is 3, not text"),
    (either(text, whole()), None, "f is None, not a whole number from 0 on"),
    (one_of(1, "x"), True, "f is True, not 1 or x"),
    (one_of(1, "x"), 1.0, "f is 1.0, not 1 or x"),
    (list_of(text), "ab", "f is 'ab', not a list"),
    (list_of(text), ("a",), "f is a tuple of 1, not a list"),
    (list_of(text, 2), ["a"], "f has 1 entries, not 2"),
    (list_of(text), ["a", 3], "f[1] is 3, not text"),
    (mapping_of(number), [1], "f is a list of 1, not a mapping"),
    (mapping_of(number), {"a": "x"}, "f.'a' is 'x', not a number"),
    (mapping_of(number), {3: 1}, "a key of f is 3, not text"),
    (OBJECT, ["name"], "f is a list of 1, not a mapping"),
    (OBJECT, {"sizes": []}, "f has no name"),
    (OBJECT, {"name": "a", "sizes": [0]}, "f.sizes[0] is 0, not a whole number from 1 to 9"),
    (OBJECT, {"name": "a", "sizes": [], "x": 1}, "f has 'x', which nothing reads"),
    (OBJECT, {"name": "a", "sizes": [], "note": 1}, "f.note is 1, not text"),
    (plain, {1: 2}, "f has the key 1, which is no text"),
    (plain, [{1}], "f holds {1}, a set"),
    (plain, NESTED, "f is nested too deeply or refers to itself"),
]


@pytest.mark.parametrize(("check", "value"), PASSING, ids=range(len(PASSING)))
def test_what_we_write_passes(check: Check, value: Any) -> None:
    check(value, "f")


@pytest.mark.parametrize(("check", "value", "line"), REFUSED, ids=range(len(REFUSED)))
def test_anything_else_is_named_with_its_place(check: Check, value: Any, line: str) -> None:
    with pytest.raises(ValueError) as refused:
        check(value, "f")
    assert str(refused.value) == line


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1, 2], "a list of 2"),
        ({}, "a dict of 0"),
        (2**201, "a number of very many digits"),
        ("ü\n", r"'\xfc\n'"),
        ("x" * 100, "'" + "x" * 39 + "..."),
    ],
    ids=["list", "mapping", "digits", "signs", "long"],
)
def test_a_value_in_words_is_one_short_line(value: Any, words: str) -> None:
    assert in_words(value) == words
