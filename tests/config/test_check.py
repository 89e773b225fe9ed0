"""Advice that can be followed, and was not followed already."""

from __future__ import annotations

import dataclasses

import pytest

from cl_lightning.config.check import check
from cl_lightning.config.compose import compose_typed
from cl_lightning.config.schema import Config
from cl_lightning.core.errors import UserError


@pytest.fixture(scope="module")
def config() -> Config:
    """The default configuration, filled in."""
    return compose_typed(["run_dir=run"])


@pytest.mark.parametrize(
    ("automatic", "advice"),
    [
        (False, "type model.patch_size=3 or model.patch_size=5"),
        (True, "type model=convit_tiny model.patch_size=3 or model=convit_tiny model.patch_size=5"),
    ],
)
def test_a_model_is_named_only_where_it_was_not(automatic: bool, advice: str, config: Config) -> None:
    seen = dataclasses.replace(config.data.preprocess, size=15)
    odd = dataclasses.replace(config, data=dataclasses.replace(config.data, image_size=15, preprocess=seen))
    with pytest.raises(UserError, match=f"data.image_size=15 is not divisible by model.patch_size=2: {advice}$"):
        check(odd, automatic_model=automatic)


def test_a_memory_that_is_advised_is_possible(config: Config) -> None:
    """Half of one image would be none."""
    memory = dataclasses.replace(config.memory, scope="per_replica", size=1)
    batch = dataclasses.replace(config.batch, replicas=2)
    with pytest.raises(UserError, match=r"memory.size=1 is not divisible by batch.replicas=2: type memory.size=2$"):
        check(dataclasses.replace(config, memory=memory, batch=batch))


@pytest.mark.parametrize(
    ("overrides", "advice"),
    [
        (
            ["data.cutout=9"],
            "data.cutout=9 is larger than the images that are augmented, of 8 pixels: type .*=4",
        ),
        (["method=dkt", "data.cutout=null"], "data.cutout=16 is larger than .* of 8 pixels: type data.cutout=4"),
        (["data=cifar100_10steps", "data.cutout=33", "data.preprocess.size=64"], "data.cutout=33 .* of 32 pixels"),
        (
            ["data=sequence", "data.sets=[{name: digits, cutout: 40}]"],
            "data.sets, cutout: 40 .* of 32 pixels",
        ),
    ],
)
def test_a_hole_is_no_larger_than_the_image(overrides: list[str], advice: str) -> None:
    with pytest.raises(UserError, match=advice):
        compose_typed(["run_dir=run", *overrides])


def test_a_stored_order_is_not_balanced_by_sampling() -> None:
    """Refused only where the memory is fine-tuned on in that order."""
    stored = ["run_dir=run", "data.balance=sampling", "recipe=erratum_2022_06"]
    with pytest.raises(UserError, match=r"data.balance=sampling does not go .* type recipe.finetuning_order=shuffled"):
        check(compose_typed(stored))
    check(compose_typed([*stored, "recipe.finetuning_order=shuffled"]))
    check(compose_typed([*stored, "memory=none"]))
