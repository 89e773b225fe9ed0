"""What a run tells of its images, and how loudly."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest
import torch

from cl_lightning.config.compose import compose_typed
from cl_lightning.config.schema import Config
from cl_lightning.data.scenarios.scenario import Scenario, split_scenario
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.run.data_record import DataRecord


@pytest.fixture(scope="module")
def config() -> Config:
    return compose_typed(["run_dir=none"])


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    """Test image 1 is training image 0, in another class."""
    pixels = torch.arange(6 * 4, dtype=torch.uint8).view(6, 1, 2, 2)
    train = ArraySource("made/train", pixels[:4], torch.tensor([0, 0, 1, 1]), ("a", "b"))
    test = ArraySource("made/test", pixels[[4, 0]], torch.tensor([0, 1]), ("a", "b"))
    return split_scenario("made", train, test, order=(1, 0), increment=1, image_size=2)


@pytest.mark.parametrize(("name", "level"), [("cifar100", logging.INFO), ("image_folder", logging.WARNING)])
def test_what_published_sets_are_like_is_in_the_log_alone(
    config: Config, scenario: Scenario, name: str, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    own = dataclasses.replace(config, data=dataclasses.replace(config.data, name=name))
    with caplog.at_level(logging.INFO):
        DataRecord(own, scenario, Path("none")).warn()
    assert [record.levelno for record in caplog.records] == [level] * 2
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("1 of 2 test images are training images too, byte for byte (train/0 is test/1): ")
    assert second.startswith("2 images stand under more than one class, byte for byte (train/0 is test/1): ")


def test_results_count_images_in_order_of_arrival(config: Config, scenario: Scenario) -> None:
    told = DataRecord(config, scenario, Path("none")).results()
    assert told["images"] == {"train": {"b": 2, "a": 2}, "test": {"b": 1, "a": 1}}
    assert list(told["images"]["train"]) == ["b", "a"]
    assert [part for part, digest in told["data_identity"].items() if digest is None] == ["validation"]
    assert told["equal_images"]["train_and_test"] == {"images": 1, "examples": [["train/0", "test/1"]]}


def test_images_that_decide_when_to_stop_are_told_of_too(config: Config) -> None:
    pixels = torch.arange(8 * 4, dtype=torch.uint8).view(8, 1, 2, 2)
    train = ArraySource("made/train", pixels[:6], torch.tensor([0, 0, 0, 1, 1, 1]), ("a", "b"))
    test = ArraySource("made/test", pixels[6:], torch.tensor([0, 1]), ("a", "b"))
    made = split_scenario(
        "made", train, test, order=(0, 1), increment=1, image_size=2, validation=0.3, evaluate_share=False
    )
    told = DataRecord(config, made, Path("none")).results()
    assert told["images"] == {"train": {"a": 2, "b": 2}, "validation": {"a": 1, "b": 1}, "test": {"a": 1, "b": 1}}
    assert None not in told["data_identity"].values()
