"""A state as safetensors and JSON: the same types and values come back, and nothing but those."""

from __future__ import annotations

import json
import math

import pytest
import torch

from cl_lightning.core.serialization import decode, encode

SHARED = torch.arange(12.0).view(3, 4)
STATE = {
    "version": 3,
    7: [None, True, 2, 2.5, "text", (1, ("two", [3]))],
    "tensors": [SHARED.t(), SHARED[1], torch.tensor(3), torch.empty(0, 2, dtype=torch.uint8), SHARED.bfloat16()],
    "float": {"dict": [1, 2], "list": "names of kinds are no trouble"},
    "infinite": [math.inf, -math.inf],
}


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        assert isinstance(other, dict)
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        assert isinstance(other, list | tuple)
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def test_everything_comes_back_with_its_type() -> None:
    assert same(STATE, decode(*encode(STATE)))
    assert not same(STATE, decode(*encode({**STATE, "version": 4})))


def test_what_is_not_a_number_comes_back() -> None:
    assert math.isnan(decode(*encode([math.nan]))[0])


def test_other_objects_are_not_stored() -> None:
    with pytest.raises(TypeError, match="a set cannot be stored"):
        encode({"a": [{1, 2}]})


@pytest.mark.parametrize("tree", [[1], {"call": ["os.system", "x"]}, {"tensor": "9"}, {"dict": [[1]]}, {"tensor": [1]}])
def test_what_was_not_written_is_refused(tree: object) -> None:
    with pytest.raises(ValueError):
        decode(json.dumps(tree).encode(), encode([SHARED])[1])
