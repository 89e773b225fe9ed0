"""Names that a choice brings cannot be typed: numbers of one method would stand under another's name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from cl_lightning.config import compose as compose_module
from cl_lightning.config.check_bounds import check_values
from cl_lightning.config.compose import compose_typed
from cl_lightning.config.registry import register
from cl_lightning.config.schema.fixed_names import lacking_in_file
from cl_lightning.config.yaml_files import config_dir
from cl_lightning.core.errors import UserError
from scripts.soak.command_lines import outcome
from tests.config.made import filled
from tests.integration.commands import typed

pytestmark = pytest.mark.slow


def test_a_word_of_a_file_that_is_no_choice_is_told_with_those_that_are() -> None:
    config = filled("method=wa")
    config = dataclasses.replace(config, method=dataclasses.replace(config.method, encoder="cnnn"))
    with pytest.raises(UserError) as raised:
        check_values(config)
    assert str(raised.value) == (
        "method.encoder=cnnn, which a file brings, is not a choice: "
        "write encoder: transformer or encoder: conv_transformer or encoder: cnn or encoder: paths or encoder: vit "
        "into it"
    )


def test_a_label_that_a_file_of_a_method_lacks_is_asked_for() -> None:
    register()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        composed = compose("config", overrides=["method=wa", "run_dir=unused"])
    composed.method.origin = "???"
    assert lacking_in_file(composed) == (
        "method.origin is in no file: write origin: published or origin: published recipe or origin: reconstruction "
        "or origin: adaptation or origin: reference into wa.yaml of conf/method"
    )
    composed.method.name = "???"
    assert lacking_in_file(composed) == "method.name is in no file: write name: ... into the file of conf/method"
    with pytest.raises(UserError, match=r"^method\.name is in no file"):
        compose_module.typed(composed)
    composed.method.name, composed.method.origin = "wa", "mine"
    with pytest.raises(UserError, match=r"^method\.origin=mine, which a file brings, .*: write origin: published or "):
        compose_module.typed(composed)


def test_what_the_user_must_give_is_in_no_file_either() -> None:
    register()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        composed = compose("config", overrides=["data=image_folder", "run_dir=unused"])
    assert lacking_in_file(composed) is None


REFUSED = {
    "method.name=wa": "method.name=wa is not possible, the choice brings method.name: type method=wa",
    "+method.rehearsal=false method.name=wa": "An item is already at 'method.rehearsal'. Either remove + prefix",
    "++method.name=wa": "type method=wa",
    "method={name: wa}": "method={name: wa} is not possible, the choice brings method.name: type method=wa",
    "method.name=mine": "type method= one of bic, classifier_only, daformer_m",
    "method.origin=published": "type method= one of bic, classifier_only, daformer_m",
    "method.encoder=cnn": "type model= one of alexnet, alexnet_tiny, auto, conv_vit_cifar",
    "method.recipe=clean": "type recipe=clean",
    "data.name=cifar100": "type data=cifar100",
    "data={name: cifar100}": "type data=cifar100",
    "memory.budget=per_class": "type memory=per_class",
    "recipe.name=clean": "type recipe=clean",
    "recipe.date=2020-01-01": "type recipe= one of auto, clean",
    "model.name=resnet18": "type model=resnet18",
    "model=convit_tiny model.name=mine": "type model= one of alexnet, alexnet_tiny, auto",
    "model=convit_tiny model.kind=timm_vit": "type model= one of alexnet, alexnet_tiny, auto",
    "model=timm model.kind=convit": "type model= one of alexnet, alexnet_tiny, auto",
}


@pytest.mark.parametrize("line", REFUSED)
def test_a_name_is_chosen_not_typed(line: str) -> None:
    words = [line] if "{" in line else line.split()
    came = outcome(words)
    assert came.kind == "refused"
    assert REFUSED[line] in came.text


@pytest.mark.parametrize(
    "line",
    [
        "model=timm model.name=deit_tiny_patch16_224",
        "logger=wandb logger.name=wa",
        "experiment=ablation_none",
        "experiment=dytox_cifar100_10steps_global",
        "memory=per_class",
    ],
)
def test_what_is_not_brought_by_a_choice_is_free(line: str) -> None:
    compose_typed(["run_dir=run", *line.split()])


def test_entries_of_data_sets_have_their_names() -> None:
    config = compose_typed(["run_dir=run", "data=sequence", "data.sets=[{name: digits}, {name: cifar100}]"])
    assert [entry.name for entry in config.data.sets] == ["digits", "cifar100"]


def test_jobs_of_a_multirun_are_refused_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed("-m", "method.name=wa,dytox") == 2
    told = capfd.readouterr().err.splitlines()
    assert len(told) == 1
    assert "method.name=wa,dytox is not possible, the choice brings method.name: type method= one of" in told[0]
    assert not list(tmp_path.rglob("config.yaml"))
    assert typed("-m", "seed=0,1", "method.name=wa") == 2
    assert capfd.readouterr().err.endswith("the choice brings method.name: type method=wa\n")
