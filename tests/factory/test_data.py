"""Memory and augmentation from the configuration: the memory is as large as the data suggest, images are augmented as
method or set says.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cl_lightning.config.schema import SetConfig
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key
from cl_lightning.data.augmentation.pipeline import Augmentation, PerDataset, RandAugment
from cl_lightning.factory.data import build_memory, build_pipeline, flips
from tests.config.made import filled
from tests.factory.scenarios import tasks


def test_a_memory_is_as_large_as_the_data_suggest_or_as_was_typed() -> None:
    def size(*overrides: str) -> tuple[str, int, str, int]:
        memory = build_memory(filled("data=cifar100_10steps", *overrides))
        return memory.budget.kind, memory.budget.size, memory.scope, memory.replicas

    assert size() == ("total", 2000, "global", 2)
    assert size("memory=per_class") == ("per_class", 20, "global", 2)
    assert size("memory.size=50", "batch.replicas=5", "memory.scope=per_replica") == ("total", 50, "per_replica", 5)
    assert size("method=meat") == ("none", 0, "global", 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", None),
        ("basic", Augmentation(4, flip=True)),
        ("brightness", Augmentation(4, flip=True, brightness=63 / 255)),
        ("rotation", Augmentation(4, flip=True, rotation=10)),
        ("randaugment", Augmentation(4, flip=True, randaugment=RandAugment())),
    ],
)
def test_an_augmentation_by_name(name: str, expected: Augmentation | None) -> None:
    config = filled("data=cifar100_10steps", f"data.augmentation={name}")
    pipeline = build_pipeline(config, tasks(), Key(7))
    assert pipeline.augmentation == expected
    assert (pipeline.image_size, pipeline.key, pipeline.mean) == (32, Key(7), (0.5071, 0.4867, 0.4408))


def test_a_method_has_its_own_augmentation() -> None:
    def of(method: str) -> Any:
        return build_pipeline(filled(f"method={method}", "data=cifar100_10steps"), tasks(), Key(0)).augmentation

    assert of("dytox").randaugment == RandAugment()
    assert of("wa").brightness == 63 / 255
    assert of("rpsnet") == Augmentation(4, flip=True, rotation=10)
    assert of("icarl") == Augmentation(4, flip=True)
    assert of("dkt") == Augmentation(4, flip=True, randaugment=RandAugment(), cutout=16)


@pytest.mark.parametrize("preset", ["basic", "brightness", "rotation", "randaugment"])
def test_cutout_goes_with_every_augmentation(preset: str) -> None:
    made = [
        build_pipeline(filled("data=cifar100_10steps", f"data.augmentation={preset}", *more), tasks(), Key(0))
        for more in ([], ["data.cutout=8"])
    ]
    without, with_it = (each.augmentation for each in made)
    assert isinstance(without, Augmentation)
    assert without.cutout == 0
    assert with_it == dataclasses.replace(without, cutout=8)


def test_normalisation_is_one_value_a_channel() -> None:
    config = filled("data.mean=null", "data.std=null")
    pipeline = build_pipeline(config, tasks((2,), 8, 3), Key(0))
    assert (pipeline.mean, pipeline.std) == ((0.5,) * 3, (0.5,) * 3)
    with pytest.raises(UserError) as refused:
        build_pipeline(filled(), tasks((2,), 8, 3), Key(0))
    assert str(refused.value) == "data.mean=[0.3053] needs 3 values, one a channel: type data.mean=null"


def test_each_of_several_sets_is_augmented_and_mirrored_as_it_says() -> None:
    config, replace = filled("data=sequence"), dataclasses.replace
    sets = [
        SetConfig("digits", flip=False, augmentation="basic", crop_padding=1),
        SetConfig("cifar100", flip=True),
        SetConfig("cifar100", flip=True, augmentation="none"),
    ]
    config = replace(config, data=replace(config.data, sets=sets))
    scenario = replace(tasks((1, 2, 1)), set_of_class=(0, 1, 1, 2))
    pipeline = build_pipeline(config, scenario, Key(0))
    assert isinstance(pipeline.augmentation, PerDataset)
    assert pipeline.augmentation.each == (
        Augmentation(1, flip=False), Augmentation(4, flip=True, randaugment=RandAugment()), None,
    )  # fmt: skip
    assert pipeline.augmentation.set_of_class.tolist() == [0, 1, 1, 2]
    assert pipeline.no_flip is not None
    assert pipeline.no_flip.tolist() == [True, False, False, False]
    assert flips(config)
    assert not flips(replace(config, data=replace(config.data, sets=sets[:1])))
