"""References to parts: put in place of weights and back, and refused where they are none of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.core.network_parts import content_of, digest_of, file_of, is_part, joined, references, weights_of

WEIGHTS = {"weight": torch.arange(6.0).view(2, 3), "count": torch.tensor(3)}


def payload(parts: Any, **weights: Tensor) -> dict[str, Any]:
    return {"network": {"structure": {}, "weights": weights, "parts": parts}, "teacher": None, "records": []}


def test_a_digest_is_of_names_shapes_types_and_numbers() -> None:
    others = [
        {"weights": WEIGHTS["weight"], "count": WEIGHTS["count"]},
        {**WEIGHTS, "weight": WEIGHTS["weight"].view(3, 2)},
        {**WEIGHTS, "weight": WEIGHTS["weight"].to(torch.int32)},
        {**WEIGHTS, "weight": WEIGHTS["weight"] + 1},
    ]
    digests = {digest_of(each) for each in [WEIGHTS, *others]}
    assert len(digests) == 1 + len(others)
    assert digest_of({name: value.clone() for name, value in WEIGHTS.items()}) == digest_of(WEIGHTS)
    assert digest_of({"half": torch.ones(2, dtype=torch.bfloat16), "none": torch.empty(0)})


def test_parts_come_back_under_their_names() -> None:
    digest = digest_of(WEIGHTS)
    referring = payload({"a.": digest, "b.0.": digest}, head=torch.ones(2))
    assert references(referring) == {digest}
    whole = joined(referring, {digest: WEIGHTS}.__getitem__)
    names = {"head", "a.weight", "a.count", "b.0.weight", "b.0.count"}
    assert set(whole["network"]) == {"structure", "weights"}
    assert whole["network"]["weights"].keys() == names
    assert whole["teacher"] is None
    assert set(referring["network"]["weights"]) == {"head"}, "what was given stays"


def test_a_checkpoint_without_references_is_as_it_was() -> None:
    given = {"network": {"structure": {}, "weights": WEIGHTS}, "teacher": None}
    assert joined(given, lambda digest: pytest.fail(digest)) == given


@pytest.mark.parametrize("parts", [{"a.": "../../etc/passwd"}, {"a.": 3}, {3: "0" * 64}, ["0" * 64], {"a.": "0" * 63}])
def test_references_of_another_form_name_no_file(parts: Any) -> None:
    with pytest.raises(ValueError, match="a network in the checkpoint"):
        references(payload(parts))


def test_weights_that_are_there_twice_are_refused() -> None:
    with pytest.raises(ValueError, match=r"has a\.count twice"):
        joined(payload({"a.": "0" * 64}, **{"a.count": torch.ones(1)}), lambda _: WEIGHTS)


@pytest.mark.parametrize("content", [3, {}, {"part": "1" * 64, "weights": {}}, {"part": "0" * 64, "weights": {"a": 1}}])
def test_another_file_is_no_part(content: Any) -> None:
    with pytest.raises(ValueError, match="it"):
        weights_of(content, "0" * 64)
    assert weights_of(content_of("0" * 64, WEIGHTS), "0" * 64) == WEIGHTS


def test_only_names_of_parts_are_parts() -> None:
    assert is_part(file_of(Path("parts"), "0" * 64))
    assert not any(is_part(Path(name)) for name in ("task_000.pt", "0" * 64, f".{'0' * 64}.pt.part"))
