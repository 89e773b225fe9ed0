"""Values that options may have: every number has bounds, and what is out of them is one line."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from cl_lightning.config.check import check
from cl_lightning.config.registry import SCHEMAS
from cl_lightning.config.schema import Config, SetConfig
from cl_lightning.config.schema.added_task import LearntFolderConfig
from cl_lightning.config.schema.bounds import Choice, Each, Named, Range, bounds_of
from cl_lightning.core.errors import UserError
from tests.config.made import filled

_CHECKED_ELSEWHERE = {"order", "increment", "token_mask_blocks", "main"}
"""Any value: a class order, the tasks' sizes (``data/orders.py``, ``data/scenario.py``) and a list of blocks
(``check.py``). ``main`` of a method that trains in the first task alone: a phase or null for Hydra, and never a phase
then.
"""


def _schemas(schema: type) -> Iterator[type]:
    yield schema
    for hint in get_type_hints(schema).values():
        for inner in (hint, *get_args(hint)):
            if isinstance(inner, type) and dataclasses.is_dataclass(inner):
                yield from _schemas(inner)


EVERY = sorted(
    {
        inner
        for schema in (Config, *(each for group in SCHEMAS.values() for each in group.values()))
        for inner in _schemas(schema)
    },
    key=lambda schema: schema.__name__,
)
FIELDS = [(schema, field) for schema in EVERY for field in dataclasses.fields(schema)]


def _numbers(hint: Any) -> set[type]:
    inner = {kind for each in get_args(hint) for kind in _numbers(each)}
    return inner | ({hint} if hint in (int, float) else set())


def test_all_kinds_of_options_are_looked_at() -> None:
    assert {SetConfig, LearntFolderConfig, Config} <= set(EVERY)
    assert len(FIELDS) > 200


@pytest.mark.parametrize(("schema", "field"), FIELDS, ids=[f"{schema.__name__}.{f.name}" for schema, f in FIELDS])
def test_a_number_has_bounds_and_is_never_infinite(schema: type, field: dataclasses.Field[Any]) -> None:
    hint = get_type_hints(schema)[field.name]
    bounds = bounds_of(field)
    if hint is Any:
        assert field.name in _CHECKED_ELSEWHERE
    numbers = _numbers(hint)
    if not numbers:
        return
    assert bounds is not None, "say which values it may have: number(), whole(), share() or choice() of bounds.py"
    several = get_origin(hint) in (list, dict) or any(get_origin(each) in (list, dict) for each in get_args(hint))
    assert isinstance(bounds, Each) == several
    for value in (math.nan, math.inf, -math.inf, 10**200, -(10**200), True):
        assert bounds.refusal(Named("key"), [value] if several else value) is not None
    ends = bounds.range if isinstance(bounds, Each) else bounds
    if isinstance(ends, Range):
        assert math.isfinite(ends.low)
        assert math.isfinite(ends.high)
        assert ends.whole == (numbers == {int})


@pytest.mark.parametrize(("schema", "field"), FIELDS, ids=[f"{schema.__name__}.{f.name}" for schema, f in FIELDS])
def test_a_default_may_be_typed(schema: type, field: dataclasses.Field[Any]) -> None:
    bounds = bounds_of(field)
    default = field.default if field.default is not dataclasses.MISSING else None
    if bounds is not None and default not in (None, "???"):
        assert bounds.refusal(Named("key"), default) is None


FAULTS = {
    "data.mean=[nan]": "data.mean=[nan] is not possible: type data.mean=null or [0.5,0.5,0.5]",
    "data.std=[1e-300]": "numbers at least 1e-06 and at most 1000",
    "data.std=[inf]": "data.std=[inf] is not possible",
    "model=convit_tiny model.locality=nan": "model.locality=nan is out of range: type model.locality=N with N at least",
    "model=convit_tiny model.locality=inf": "model.locality=inf is out of range",
    "model=convit_tiny model.mlp_ratio=1e30": "N above 0 and at most 1000",
    "model=convit_tiny model.depth=1000000": "N at least 1 and at most 2000",
    "model=convit_tiny model.dim=1000000": "model.dim=1000000 is out of range",
    "model=resnet32 method=wa model.depth=1000000": "model.depth=1000000 is out of range",
    "data.crop_padding=1000000": "data.crop_padding=1000000 is out of range",
    "data.image_size=1000000": "data.image_size=1000000 is out of range",
    "batch.size=1000000000": "batch.size=1000000000 is out of range",
    f"batch.size={2**70}": "N at least 1 and at most 1000000",
    f"trainer.threads={2**70}": "N at least 1 and at most 4096",
    f"seed={2**70}": "is out of range",
    "epochs_scale=1e30": "epochs_scale=1e+30 is out of range: type epochs_scale=N with N above 0 and at most 1e+06",
    "epochs_scale=1e-300": "epochs_scale=1e-300 is out of range",
    "epochs_scale=100000": "epochs=500 times 100000 are more than 1000000 epochs: type a smaller epochs_scale",
    "method.temperature=inf": "method.temperature=inf is out of range",
    "method.main.momentum=nan": "is not a share: type method.main.momentum=X with X at least 0 and below 1",
    "method.main.milestones=[0.5,nan]": "method.main.milestones=[0.5, nan] are no shares of the phase",
    "method.main.milestones=[1.5]": "type method.main.milestones=[0.5,0.8], numbers above 0 and below 1",
    "method.mixup.alpha=nan": "method.mixup.alpha=nan is out of range",
    "data.validation=nan": "data.validation=nan is not a share",
    "data.suggests.lr_scale.cnn=nan": "data.suggests.lr_scale.cnn=nan is out of range",
    "trainer.checkpoint_minutes=nan": "trainer.checkpoint_minutes=nan is out of range",
    "memory.size=0": "memory.size=0 is no memory: type memory.size=N with N at least 1, or memory=none",
}


@pytest.mark.parametrize("typed", FAULTS)
def test_what_is_out_of_bounds_is_reported_in_one_line(typed: str) -> None:
    with pytest.raises(UserError) as told:
        check(filled(*typed.split()))
    assert FAULTS[typed] in str(told.value)
    assert len(str(told.value).splitlines()) == 1


def test_a_long_value_is_cut() -> None:
    told = Choice(("a", "b")).refusal(Named("key"), "x" * 10_000)
    assert told is not None
    assert len(told) < 200
    assert told.endswith("is not a choice: type key=a or key=b")
