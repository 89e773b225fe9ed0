"""What Hydra refuses, as a line: read from the errors' types and attributes."""

from __future__ import annotations

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from omegaconf.errors import ConfigAttributeError

from cl_lightning.config.compose import compose_typed
from cl_lightning.config.hydra_errors import explain
from cl_lightning.config.option_names import COMMON_WORDS
from cl_lightning.config.yaml_files import config_dir

pytestmark = pytest.mark.slow


def explained(*arguments: str) -> str | None:
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
    assert (explained(typed) or "").startswith(told)


def test_of_several_runs_the_value_of_the_wrong_one_is_named() -> None:
    assert (explained("-m", "method.main=[1]") or "").startswith(
        "method.main=... is not possible: type method.main.KEY="
    )
    assert explained("-m", "seed=a") == "seed=a is not possible: type seed= a whole number"


def test_what_nothing_of_ours_explains_is_told_by_hydra_in_a_line() -> None:
    told = "Could not append to config. An item is already at 'seed'. Either remove + prefix: 'seed=1' "
    assert (explained("+seed=1") or "").startswith(told)


def test_a_mistake_in_a_file_is_told_by_hydra_which_names_the_file() -> None:
    with pytest.raises(HydraException) as raised:
        compose_typed(["run_dir=none", "method=wa", "method.temprature=2"])
    said = "Could not override 'method.temprature'. To append to your config use +method.temprature=2"
    assert explain(raised.value, ["method=wa"]) == said, "nobody typed it, so it is in a file"


def test_a_type_without_a_line_in_the_registry_is_told_where_the_line_goes() -> None:
    """Whoever adds ``conf/method/lfl.yaml`` has typed ``method=lfl``, and no method is near what is missing."""
    told = explain(MissingConfigException("", missing_cfg_file="method/schema_lfl", options=["wa"]), ["method=lfl"])
    assert told == (
        'method=schema_lfl does not exist: SCHEMAS["method"] of cl_lightning/config/registry.py has no line "lfl", '
        "add it, or choose another in the file"
    )


def test_of_two_overrides_of_a_group_the_wrong_one_is_named() -> None:
    assert (explained("batch.size=x", "batch={replicas: 1}") or "").startswith("batch.size=x is not possible")
    assert (explained("data.mean=3", "data=cifar100") or "").startswith("data.mean=3 is not possible: type 'data.mean=")


@pytest.mark.parametrize("error", [KeyError("x"), AssertionError("x"), AttributeError("x"), ConfigAttributeError("x")])
def test_an_error_of_ours_is_none_of_hydra_s(error: Exception) -> None:
    assert explain(error, []) is None


def test_explaining_leaves_a_job_of_hydra_alone() -> None:
    with pytest.raises(HydraException) as raised:
        compose_typed(["run_dir=none", "method.main=3"])
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        job = GlobalHydra.instance().hydra
        assert explain(raised.value, ["method.main=3"]) is not None
        assert GlobalHydra.instance().hydra is job


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("epochs=3", "epochs is not an option (did you mean method.main.epochs?): there is "),
        ("method.epochs=3", "method.epochs is not an option (did you mean method.main.epochs?): method has "),
        ("lr=0.1", "lr is not an option (did you mean method.main.lr?): there is "),
        ("batch_size=8", "batch_size is not an option (did you mean batch.size?): there is "),
        ("data.batch_size=8", "data.batch_size is not an option (did you mean batch.size?): data has "),
        (
            "method.finetuning.optimizer=sgd",
            "method.finetuning.optimizer is not an option (did you mean method.finetuning.optimiser?): method.",
        ),
        ("sed=1", "sed is not an option (did you mean seed?): there is "),
    ],
)
def test_a_word_of_other_programs_is_answered_with_the_option_that_is_meant(typed: str, meant: str) -> None:
    assert (explained(typed) or "").startswith(meant)


def test_every_option_that_a_word_stands_for_exists() -> None:
    config = compose_typed(["run_dir=none", "data=image_folder", "data.root=x", "data.increment=2"])
    for meant in set(COMMON_WORDS.values()):
        node: object = config
        for part in meant.split("."):
            node = getattr(node, part)
