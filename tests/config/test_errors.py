"""What Hydra refuses, as a line: read from the errors' types and attributes."""

from __future__ import annotations

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException

from cl_lightning.config.compose import compose_typed
from cl_lightning.config.errors import explain
from cl_lightning.config.files import config_dir


def explained(*arguments: str) -> str:
    try:
        compose_typed([argument for argument in ("run_dir=none", *arguments) if not argument.startswith("-")])
    except (HydraException, AssertionError) as error:
        return explain(error, arguments)
    raise AssertionError(f"Hydra composes {arguments}")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("method={main:{lrr:1}}", "method.main.lrr is not an option (did you mean method.main.lr?): method.main has "),
        ("method.finetuning.phase.lr=1", "method.finetuning.phase is not an option: method.finetuning has decay_vec"),
        ("method.mixup={alpha:x}", "method.mixup={alpha:x} is not possible: type method.mixup.alpha= a number"),
        ("batch=3", "batch=3 is not possible: type batch.KEY=VALUE with one of evaluation, replicas, size"),
        ("seed.x=1", "seed.x=1 is not possible: type seed= a whole number"),
        ("hydra/job_logging=nix", "hydra/job_logging=nix does not exist: type hydra/job_logging= one of default, disa"),
        ("experiment=[ablation_none,nix]", "experiment=nix does not exist: type experiment= one of ablation_div"),
        ("seed=range(1,3)", "seed=range(1,3) are several values: type -m as well for a run of each"),
        ("hydra.mode=x", "hydra.mode=x is not possible: Invalid value 'x', expected one of [RUN, MULTIRUN]"),
        ("data.mean=[x]", "data.mean=[x] is not possible: Value 'x' of type 'str' could not be converted to Float"),
    ],
)
def test_the_line_names_the_key_that_is_meant(typed: str, told: str) -> None:
    assert explained(typed).startswith(told)


def test_of_several_runs_the_value_of_the_wrong_one_is_named() -> None:
    assert explained("-m", "seed=a").startswith("seed=a is not possible: type seed= a whole number")


def test_what_nothing_of_ours_explains_is_told_by_hydra_in_a_line() -> None:
    told = explained("+seed=1")
    assert told.startswith("Could not append to config. An item is already at 'seed'. Either remove + prefix: 'seed=1'")


def test_a_mistake_in_a_file_is_told_with_the_file() -> None:
    with pytest.raises(HydraException) as raised:
        compose_typed(["run_dir=none", "seed=abc"])
    assert explain(raised.value, []) == (
        "Error merging override seed=abc: Value 'abc' of type 'str' could not be converted to Integer"
    ), "as nobody typed it, Hydra says where it is"


def test_explaining_leaves_a_job_of_hydra_alone() -> None:
    with pytest.raises(HydraException) as raised:
        compose_typed(["run_dir=none", "method.main=3"])
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        job = GlobalHydra.instance().hydra
        assert "method.main.KEY=VALUE" in explain(raised.value, ["method.main=3"])
        assert GlobalHydra.instance().hydra is job
