"""What is left open is filled in: by the recipe, which is the data's before the method's; what was typed wins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cl_lightning.config.fill_auto import changed_switches, fill_in, suggested_scales, unread_switches
from cl_lightning.config.schema import PhaseConfig, ResNet18Config, SetConfig, TimmConfig
from cl_lightning.config.schema.open_options import opened
from cl_lightning.core.errors import UserError
from tests.config.made import filled, given


def option(key: str, *overrides: str) -> Any:
    value: Any = filled(*overrides)
    for name in key.split("."):
        value = getattr(value, name)
    return value


CIFAR = "data=cifar100_10steps"

# ---- the recipe --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["method=dytox"], "clean"),  # of the data, digits, whatever the method suggests
        (["method=meat"], "clean"),
        ([CIFAR, "method=dytox"], "erratum_2022_06"),  # of the method, where the data suggest none
        ([CIFAR, "method=daformer_m"], "daformer"),
        ([CIFAR, "method=meat"], "meat"),
        ([CIFAR, "method=wa"], "clean"),
        ([CIFAR, "data.suggests.recipe=paper_2022_03"], "paper_2022_03"),
        ([CIFAR, "method.recipe=clean"], "clean"),
        (["recipe=paper_2022_03"], "paper_2022_03"),  # typed
        ([CIFAR, "method=meat", "recipe=erratum_2022_06"], "erratum_2022_06"),
    ],
)
def test_recipe_auto_is_the_data_s_before_the_method_s(overrides: list[str], name: str) -> None:
    assert option("recipe.name", *overrides) == name


def test_a_switch_that_was_typed_wins_over_the_recipe_that_was_looked_up() -> None:
    recipe = filled(CIFAR, "recipe.schedule_lag=false", "recipe.replicas=5").recipe
    assert (recipe.name, recipe.schedule_lag, recipe.replicas) == ("erratum_2022_06", False, 5)
    assert (recipe.repeated_augmentation, recipe.date) == (True, "2022-06-30")
    assert changed_switches(recipe) == {"schedule_lag": False, "replicas": 5}


@pytest.mark.parametrize("name", ["auto", "erratum"])
def test_a_recipe_that_is_suggested_must_be_there(name: str) -> None:
    with pytest.raises(UserError) as refused:
        filled(CIFAR, f"data.suggests.recipe={name}")
    assert str(refused.value).startswith(
        f"recipe {name!r} of method or data is unknown: type recipe=clean, recipe=daformer, recipe=dkt_2023_06, "
    )


def test_replicas_and_precision_are_the_recipe_s_unless_typed() -> None:
    assert [option("batch.replicas", each) for each in ("recipe=clean", "recipe=erratum_2022_06")] == [1, 2]
    assert option("batch.replicas", "recipe=erratum_2022_06", "batch.replicas=4") == 4
    assert option("trainer.precision", "recipe.precision=bf16-mixed") == "bf16-mixed"
    assert option("trainer.precision", "recipe.precision=bf16-mixed", "trainer.precision=32-true") == "32-true"


@pytest.mark.parametrize(("method", "number"), [("dkt", 0), ("dytox", 3), ("daformer_s", 3), ("wa", 13), ("meat", 13)])
def test_switches_that_only_task_transformers_or_dkt_read(method: str, number: int) -> None:
    assert len(unread_switches(filled(f"method={method}").method)) == number


# ---- the encoder -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["method=dytox"], "convit_tiny"),
        (["method=dkt"], "conv_vit_tiny"),
        (["method=wa"], "resnet8"),
        (["method=meat"], "vit_tiny"),
        ([CIFAR, "method=dytox"], "convit_cifar"),
        ([CIFAR, "method=der"], "resnet18"),
        ([CIFAR, "method=individual"], "vit_cifar"),
        ([CIFAR, "method=der", "model=resnet32"], "resnet32"),
        (["data=imagenet100_10steps", "method=dytox"], "convit_imagenet"),
    ],
)
def test_model_auto_is_what_the_data_suggest_for_the_method_s_kind_of_encoder(overrides: list[str], name: str) -> None:
    assert option("model.name", *overrides) == name


def test_a_kind_of_encoder_of_which_the_data_know_none() -> None:
    with pytest.raises(UserError, match=r"the data suggest no encoder for this method \(''\): type model=alexnet"):
        filled("method.encoder=rnn")


def test_patches_follow_the_data_unless_typed() -> None:
    assert option("model.patch_size", "model=convit_tiny") == 2
    assert option("model.patch_size", "model=convit_tiny", CIFAR) == 4
    assert option("model.patch_size", "model=convit_tiny", CIFAR, "model.patch_size=8") == 8
    assert option("model.patch_size", "model=vit_tiny", "method=meat", CIFAR) == 4


@pytest.mark.parametrize(("size", "patches"), [(32, 4), (64, 4), (65, None), (224, None)])
def test_a_transformer_of_timm_has_the_patches_of_its_name_for_large_images(size: int, patches: int | None) -> None:
    model = filled("method=meat", "model=timm", CIFAR, f"data.image_size={size}").model
    assert isinstance(model, TimmConfig)
    assert model.patch_size == patches
    assert option("model.patch_size", "method=meat", "model=timm", "data.image_size=224", "model.patch_size=7") == 7


@pytest.mark.parametrize(("size", "typed", "stem"), [(64, [], "small"), (65, [], "large"), (224, ["small"], "small")])
def test_a_stem_follows_the_size_of_images(size: int, typed: list[str], stem: str) -> None:
    overrides = [f"model.stem={each}" for each in typed]
    model = filled("method=wa", "model=resnet18", CIFAR, f"data.image_size={size}", *overrides).model
    assert isinstance(model, ResNet18Config)
    assert model.stem == stem


# ---- memory, batch, threads --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "memory"),
    [
        ([], ("total", 200)),
        (["memory=per_class"], ("per_class", 10)),
        ([CIFAR, "memory=per_class"], ("per_class", 20)),
        (["memory.size=7"], ("total", 7)),
        (["memory=none"], ("none", 0)),
        (["method=meat", "memory.size=7"], ("none", 0)),  # nothing is rehearsed, whatever was chosen
        (["method.rehearsal=false"], ("none", 0)),
    ],
)
def test_a_memory_s_size(overrides: list[str], memory: tuple[str, int]) -> None:
    made = filled(*overrides).memory
    assert (made.budget, made.size) == memory


def test_the_size_of_a_step_and_threads_are_the_data_s_unless_typed() -> None:
    assert [option("batch.size", each) for each in ("data=digits", CIFAR)] == [32, 128]
    assert option("batch.size", CIFAR, "batch.size=5") == 5
    assert [option("trainer.threads", each) for each in ("data=digits", CIFAR)] == [1, None]
    assert option("trainer.threads", "trainer.threads=3") == 3


# ---- schedules ---------------------------------------------------------------------------------------------------


def test_scales_are_the_data_s_for_the_kind_of_encoder() -> None:
    assert suggested_scales(given(["method=dytox"])) == {
        "epochs_scale": 0.08, "balanced_epochs_scale": 1.0, "lr_scale": 4.0,
    }  # fmt: skip
    assert suggested_scales(given(["method=wa"]))["lr_scale"] == 1.0
    assert suggested_scales(given([CIFAR, "method=meat"]))["lr_scale"] == 1.0, "of a kind that they do not name"


def test_a_scale_that_was_typed_wins() -> None:
    config = filled("epochs_scale=0.5", "lr_scale=3")
    assert (config.epochs_scale, config.balanced_epochs_scale, config.lr_scale) == (0.5, 1.0, 3.0)


def main_phase(*overrides: str) -> PhaseConfig:
    return filled(*overrides).method.main


def test_epochs_that_were_typed_are_not_scaled_by_the_data() -> None:
    assert main_phase().epochs_scale is None, "the run's, 0.08"
    typed = main_phase("method.main.epochs=7")
    assert (typed.epochs, typed.epochs_scale, typed.lr_scale) == (7, 1.0, None)
    assert typed.warmup_epochs == pytest.approx(0.4), "5 of 500 epochs, scaled as before"
    both = main_phase("method.main.epochs=7", "epochs_scale=0.5")
    assert (both.epochs, both.epochs_scale) == (7, None), "a scale that was typed too applies"


def test_a_rate_that_was_typed_is_not_scaled_by_the_data() -> None:
    assert main_phase("method.main.lr=0.25").lr_scale == 1.0
    assert main_phase("method.main.lr=0.25", "lr_scale=2").lr_scale is None


# ---- methods and data --------------------------------------------------------------------------------------------


def test_mixup_without_alpha_and_steps_without_radius_are_none() -> None:
    assert option("method.mixup", "method=dytox_plus", "method.mixup.alpha=0") is None
    assert option("method.mixup.alpha", "method=dytox", "method.mixup.alpha=0.3") == 0.3
    assert option("method.sam", "method=dytox_plusplus", "method.sam.rho=0") is None
    assert option("method.mixup", "method=meat", "method.mixup.alpha=0") is None


@pytest.mark.parametrize(
    ("overrides", "trained"),
    [
        ([], True),
        (["method.backbone_file=weights.pth"], False),
        (["model=timm", "model.pretrained=true"], False),
        (["model=timm"], True),
        (["method.backbone_file=weights.pth", "method.backbone_task=true"], True),
        (["method.backbone_task=false"], False),
    ],
)
def test_the_first_task_trains_a_transformer_that_comes_from_nowhere(overrides: list[str], trained: bool) -> None:
    for method in ("meat", "individual"):
        assert option("method.backbone_task", f"method={method}", *overrides) is trained


def test_augmentation_is_the_method_s_unless_the_data_or_the_user_say() -> None:
    assert [option("data.augmentation", CIFAR, f"method={each}") for each in ("dytox", "wa", "icarl")] == [
        "randaugment", "brightness", "basic",
    ]  # fmt: skip
    assert option("data.augmentation", "method=dytox") == "basic", "digits' own"
    assert option("data.augmentation", CIFAR, "data.augmentation=none") == "none"


@pytest.mark.parametrize(
    ("overrides", "pixels"),
    [
        ([CIFAR, "method=dkt"], 16),
        ([CIFAR, "method=dkt", "recipe=clean"], 16),  # part of the method, and no quirk
        (["data=imagenet100_10steps", "method=dkt"], 0),  # as published
        (["method=dkt"], 0),  # digits
        ([CIFAR, "method=dkt", "method.cutout=12"], 12),
        ([CIFAR, "method=dkt", "data.cutout=0"], 0),
        ([CIFAR, "method=dytox"], 0),
        ([CIFAR, "method=dytox", "data.cutout=16"], 16),
    ],
)
def test_cutout_is_off_but_for_a_method_that_has_it_on_data_that_leave_it_open(
    overrides: list[str], pixels: int
) -> None:
    assert option("data.cutout", *overrides) == pixels


def test_sets_take_what_they_leave_open_from_the_whole() -> None:
    entry = opened(SetConfig)
    config = given(["data=sequence", "data.flip=false"])
    sets = [entry("image_folder"), entry("cars"), entry("cars", flip=True, orientation="apply")]
    made = fill_in(replace(config, data=replace(config.data, sets=sets))).data.sets
    assert [each.flip for each in made] == [False, False, True]
    assert [each.orientation for each in made] == ["apply", "ignore", "apply"]


def test_what_is_filled_in_is_another_object() -> None:
    config = given([])
    fill_in(config)
    assert (config.batch.size, config.recipe.name, config.model.name) == (None, "auto", "auto")
