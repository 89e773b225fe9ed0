"""From a command line's overrides to a configuration that is filled in and checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException

from cl_lightning.config.compose import compose_one_of_many, compose_typed
from cl_lightning.config.schema import Config
from cl_lightning.core.errors import UserError


def test_what_is_composed_is_typed_filled_in_and_its_paths_are_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = compose_typed(["run_dir=here", "method=wa", "data=cifar100_10steps", "data.root=a,b", "seed=3"])
    assert type(config) is Config
    assert (config.method.name, config.model.name, config.batch.size, config.seed) == ("wa", "resnet18", 128, 3)
    assert config.run_dir == str(tmp_path / "here")
    assert config.data.root == str(tmp_path / "a,b"), "as the shell passes it, not as Hydra's grammar reads it"


def test_what_nobody_reads_is_an_error_of_one_run_and_told_of_one_of_many() -> None:
    overrides = ["run_dir=none", "method=wa", "recipe.herd_augmented=true", "memory=none", "memory.size=7"]
    config, idle = compose_one_of_many(overrides)
    assert config.memory.budget == "none"
    assert "memory.size" in [one.key for one in idle]
    with pytest.raises(UserError, match="memory.size=7"):
        compose_typed(overrides)


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("batch.size=0", "batch.size=0 is out of range: type batch.size=N with N at least 1"),
        ("model=convit_tiny model.dim=7", "model.dim=7"),
        ("lr_scale=${nothing}", "lr_scale=${nothing}"),
    ],
)
def test_values_that_are_not_possible_are_one_line(override: str, line: str) -> None:
    with pytest.raises(UserError) as refused:
        compose_typed(["run_dir=none", *override.split()])
    assert line in str(refused.value)


def test_hydra_s_state_is_restored_also_after_a_mistake() -> None:
    before = GlobalHydra.instance().hydra
    with pytest.raises(HydraException):
        compose_typed(["run_dir=none", "method=nothing"])
    assert GlobalHydra.instance().hydra is before
    compose_typed(["run_dir=none"])
    assert GlobalHydra.instance().hydra is before
