"""What a search may look at."""

from __future__ import annotations

from typing import Any

import pytest
from omegaconf import OmegaConf

from cl_lightning.config.sweep.check import looks_at_test_images


def told(patience: int | None = None, **data: Any) -> str | None:
    return looks_at_test_images(
        OmegaConf.create(
            {
                "data": {"validation": 0.0, "evaluate_on": "auto", "sets": [], **data},
                "early_stopping": {"patience": patience},
            }
        )
    )


def entry(evaluate_on: str, name: str = "image_folder") -> dict[str, str]:
    return {"name": name, "evaluate_on": evaluate_on}


def test_images_that_are_set_aside_and_those_of_a_validation_part() -> None:
    assert told(name="digits", validation=0.1) is None
    assert told(name="image_folder", evaluate_on="val") is None
    assert told(name="sequence", sets=[entry("val"), entry("val")]) is None


@pytest.mark.parametrize("evaluate_on", ["auto", "test", "val_or_test"])
def test_no_test_images_of_a_folder(evaluate_on: str) -> None:
    line = told(name="image_folder", evaluate_on=evaluate_on)
    assert line == (
        "data.validation=0.0 lets a search look at the test images: type data.validation=0.1, or data.evaluate_on=val "
        "where data.root has a folder val"
    )


def test_no_test_images_where_there_is_no_such_part_to_choose() -> None:
    assert told(name="digits", evaluate_on="val") == (
        "data.validation=0.0 lets a search look at the test images: type data.validation=0.1"
    )
    assert told(name="sequence", sets=[entry("val"), entry("auto")]) is not None
    assert told(name="sequence", sets=[entry("val"), entry("val", "digits")]) is not None


def test_a_search_that_stops_early_is_evaluated_on_what_it_stopped_by() -> None:
    assert told(5, name="digits", validation=0.1) == (
        "early_stopping.patience=5 leaves the evaluation to the test images, which a search must not look at: "
        "type data.evaluate_on=val, which evaluates on the images set aside"
    )
    assert told(5, name="digits", validation=0.1, evaluate_on="val") is None
