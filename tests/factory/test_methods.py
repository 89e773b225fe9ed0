"""The registry of methods."""

from __future__ import annotations

import dataclasses

import pytest

from cl_lightning.config.schema import WAConfig
from cl_lightning.core.rng import Key
from cl_lightning.data.scenarios.scenario import without_images
from cl_lightning.factory.methods import build_method
from tests.config.made import filled


def test_options_without_a_builder_are_a_bug_that_names_the_table() -> None:
    @dataclasses.dataclass(kw_only=True)
    class LFLConfig(WAConfig):
        """A method whose builder was forgotten."""

    config = filled("method=wa")
    forgotten = dataclasses.replace(config, method=LFLConfig(**vars(config.method)))
    with pytest.raises(NotImplementedError, match=r"LFLConfig has no builder: .* in _METHODS of factory/methods\.py"):
        build_method(forgotten, without_images("toy", "ab", (2,), 32, 3), Key(0))
