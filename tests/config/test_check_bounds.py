"""The check of every option against its bounds: also in nested options and in entries of lists."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import pytest

from cl_lightning.config.check_bounds import check_values, refusals
from cl_lightning.config.schema import SetConfig
from cl_lightning.config.schema.bounds import choice, number, whole
from cl_lightning.config.schema.open_options import opened
from cl_lightning.core.errors import UserError
from tests.config.made import given


@dataclass(kw_only=True)
class Inner:
    size: int | None = whole(at_most=9)


@dataclass(kw_only=True)
class Outer:
    rate: float = number(above=0.0, at_most=2.0)
    word: str = choice(("a", "b"))
    inner: Inner | None
    several: list[Inner]


def test_every_value_that_is_out_of_its_bounds_has_a_line_in_the_order_of_the_options() -> None:
    options = Outer(rate=0.0, word="c", inner=Inner(size=10), several=[Inner(size=3), Inner(size=-1)])
    assert list(refusals(options)) == [
        "rate=0.0 is out of range: type rate=N with N above 0 and at most 2",
        "word=c is not a choice: type word=a or word=b",
        "inner.size=10 is out of range: type inner.size=N with N at least 0 and at most 9",
        "several, entry 2 (): size: -1 is out of range: type size: N with N at least 0 and at most 9",
    ]
    with pytest.raises(UserError, match="^rate=0.0 is out of range"):
        check_values(options)


def test_what_is_within_is_accepted_and_null_is_for_the_type_to_allow() -> None:
    assert list(refusals(Outer(rate=2.0, word="a", inner=None, several=[]))) == []
    assert list(refusals(Outer(rate=1e-9, word="b", inner=Inner(size=None), several=[Inner(size=9)]))) == []


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"test_share": math.nan}, "test_share: nan is out of range: type test_share: N with N above 0"),
        ({"classes": 2**70}, f"classes: {2**70} is out of range: type classes: N with N at least 1"),
        ({"crop_padding": -1}, "crop_padding: -1 is out of range"),
        ({"files": "some"}, "files: some is not a choice: type files: any or by_suffix"),
        ({"augmentation": "cutmix"}, "augmentation: cutmix is not a choice: type augmentation: none or basic"),
    ],
)
def test_an_entry_of_data_sets_is_looked_at_too(options: dict[str, Any], line: str) -> None:
    config, entry = given(["data=sequence"]), opened(SetConfig)
    data = dataclasses.replace(config.data, sets=[entry("digits"), entry("cifar100", **options)])
    told = list(refusals(dataclasses.replace(config, data=data)))
    assert len(told) == 1
    assert told[0].startswith(f"data.sets, entry 2 (cifar100): {line}")


@pytest.mark.parametrize(
    ("place", "value", "line"),
    [
        ("milestones", 0, "method.main.milestones=0 is not a list: type 'method.main.milestones=[...]'"),
        ("milestones", [True], "method.main.milestones=[True] are no shares"),
    ],
)
def test_what_an_interpolation_put_there_is_looked_at(place: str, value: object, line: str) -> None:
    """``method.main.milestones=${seed}``: OmegaConf checks numbers and words alone."""
    config = given([])
    main = dataclasses.replace(config.method.main, **{place: value})
    told = list(refusals(dataclasses.replace(config, method=dataclasses.replace(config.method, main=main))))
    assert told[0].startswith(line)


def test_a_number_in_the_place_of_options_is_reported() -> None:
    config = given([])
    told = list(refusals(dataclasses.replace(config, method=0)))  # type: ignore[arg-type]
    assert told == ["method=0 holds no options: type method.KEY=VALUE"]
    told = list(refusals(dataclasses.replace(config, data=dataclasses.replace(config.data, sets=[0]))))  # type: ignore[list-item]
    assert told == ["data.sets=[0] is no list of entries: type 'data.sets=[{KEY: VALUE}]'"]
