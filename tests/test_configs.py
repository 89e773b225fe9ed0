"""Every configuration file composes, is typed, filled in and accepted; every key of a group is explained where it
stands.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cl_lightning.config.compose import compose_typed
from cl_lightning.config.fill_auto import changed_switches
from cl_lightning.config.identity import numeric_settings
from cl_lightning.config.origin import origin_of
from cl_lightning.config.registry import register
from cl_lightning.config.saved import to_plain
from cl_lightning.config.schedule_scales import trained_phases
from cl_lightning.config.schema import Config, MethodConfig, RecipeConfig
from cl_lightning.config.yaml_files import config_dir, options

pytestmark = pytest.mark.slow  # `make check` composes every configuration too

GROUPS = sorted(path.name for path in config_dir().iterdir() if path.is_dir())
REQUIRED = {
    "data=image_folder": ["data.root=/nowhere", "data.increment=2"],
    "data=sequence": ["data.sets=[{name: digits}]"],
}
NEEDS = {
    "model=resnet8": ["method=wa"],
    "model=resnet18": ["method=wa"],
    "model=resnet32": ["method=wa"],
    "model=timm_backbone": ["method=wa"],
    "model=alexnet": ["method=hat"],
    "model=alexnet_tiny": ["method=hat"],
    "model=path_net": ["method=rpsnet"],
    "model=path_net_tiny": ["method=rpsnet"],
    "model=convit_imagenet": ["data=imagenet100_10steps"],
    "model=conv_vit_imagenet": ["data=imagenet100_10steps"],
    "model=vit_cifar": ["method=meat"],
    "model=vit_tiny": ["method=meat"],
    "trainer=ddp": ["batch.replicas=2"],
    "trainer=ddp_cpu": ["batch.replicas=2"],
}


def composed(*overrides: str) -> Config:
    return compose_typed(["run_dir=unused", *overrides])


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in GROUPS for name in options(group)])
def test_every_option_composes_and_is_accepted(group: str, name: str) -> None:
    choice = f"{group}={name}"
    config = composed(choice, *REQUIRED.get(choice, []), *NEEDS.get(choice, []))
    assert config.epochs_scale is not None
    assert config.batch.size is not None
    assert config.memory.size is not None
    assert config.recipe.name != "auto"
    assert config.model.name != "auto"
    if group in ("method", "model", "recipe") and name not in ("auto", "timm", "timm_backbone"):
        given = getattr(config, group).name
        assert given == name, (
            f"conf/{group}/{name}.yaml has name: {given}, and runs are named by it: write name: {name}"
        )


@pytest.mark.parametrize("path", sorted((config_dir() / "data").glob("*.yaml")), ids=lambda p: p.stem)
def test_what_a_data_set_leaves_to_the_user_is_missing_until_it_is_typed(path: Path) -> None:
    """``???`` gives way to whatever the file starts from: it must start from a type, not from another data set."""
    asked = re.findall(r"^(\w+): \?\?\?", path.read_text(encoding="utf-8"), re.MULTILINE)
    register()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        missing = OmegaConf.missing_keys(compose("config", overrides=[f"data={path.stem}"]).data)
    assert missing == {f"data.{key}" for key in asked}, (
        f"conf/data/{path.name}: ??? replaces no value of the files in its defaults"
    )


@pytest.mark.parametrize("method", options("method"))
@pytest.mark.parametrize("data", ["digits", "cifar100_10steps", "imagenet100_10steps", "tiny_imagenet", "image_folder"])
def test_every_method_goes_with_every_kind_of_data(method: str, data: str) -> None:
    composed(f"method={method}", f"data={data}", *REQUIRED.get(f"data={data}", []))


@pytest.mark.parametrize(
    "path",
    [p for g in GROUPS for p in sorted((config_dir() / g).glob("*.yaml"))],
    ids=lambda p: f"{p.parent.name}/{p.stem}",
)
def test_every_file_opens_with_what_it_is(path: Path) -> None:
    assert path.read_text().startswith("# "), f"{path.name} does not say what it is"


def test_recipes_are_complete_and_dated() -> None:
    for name in options("recipe"):
        if name == "auto":
            continue
        recipe = composed(f"recipe={name}").recipe
        assert all(value is not None for value in vars(recipe).values()), recipe
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", recipe.date or "")


def test_the_default_is_dytox_on_digits_with_the_clean_recipe() -> None:
    config = composed()
    assert (config.method.name, config.data.name, config.recipe.name, config.model.name) == (
        "dytox",
        "digits",
        "clean",
        "convit_tiny",
    )
    assert config.batch.replicas == 1


def test_cifar_takes_the_published_recipe_and_encoder() -> None:
    config = composed("data=cifar100_10steps")
    assert (config.recipe.name, config.model.name) == ("erratum_2022_06", "convit_cifar")
    assert (config.batch.replicas, config.batch.size, config.memory.size) == (2, 128, 2000)
    assert (config.epochs_scale, config.balanced_epochs_scale, config.lr_scale) == (1.0, 1.0, 1.0)
    assert config.recipe.finetuning_order == "sequential"


def test_a_switch_replaces_one_value_of_the_automatic_recipe() -> None:
    plain, changed = (
        composed("data=cifar100_10steps"),
        composed("data=cifar100_10steps", "recipe.repeated_augmentation=false"),
    )
    assert plain.recipe.repeated_augmentation is True
    assert changed.recipe.repeated_augmentation is False
    changed.recipe.repeated_augmentation = True
    assert changed == plain


def test_convolutional_methods_take_a_convolutional_backbone() -> None:
    assert composed("method=wa", "data=cifar100_10steps").model.name == "resnet18"
    assert composed("method=icarl").model.name == "resnet8"


def test_the_patch_size_follows_the_data_where_the_model_leaves_it_open() -> None:
    assert composed("model=convit_tiny").model.patch_size == 2  # type: ignore[attr-defined]
    assert composed("model=convit_tiny", "data=cifar100_10steps").model.patch_size == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize(("data", "size", "patches"), [("cifar100_10steps", 32, 4), ("cifar100_10steps", 224, None)])
def test_timms_transformers_have_their_names_patches_but_for_small_images(
    data: str, size: int, patches: int | None
) -> None:
    config = composed("method=meat", "model=timm", "model.pretrained=true", f"data={data}", f"data.image_size={size}")
    assert config.model.patch_size == patches  # type: ignore[attr-defined]
    assert composed("model=timm", "data=imagenet100_10steps", "data.root=x").model.patch_size is None  # type: ignore[attr-defined]


def test_changed_switches_of_a_recipe_are_known() -> None:
    assert changed_switches(composed("data=cifar100_10steps").recipe) == {}
    changed = composed("recipe=erratum_2022_06", "recipe.herd_augmented=false").recipe
    assert changed_switches(changed) == {"herd_augmented": False}
    changed = composed("data=cifar100_10steps", "recipe.schedule_lag=false").recipe
    assert changed_switches(changed) == {"schedule_lag": False}


@pytest.mark.parametrize("method", ["dytox", "daformer_m", "meat"])
def test_mixup_of_nothing_is_none_and_can_be_typed_for_all(method: str) -> None:
    without = composed(f"method={method}", "method.mixup.alpha=0").method
    assert without.mixup is None  # type: ignore[attr-defined]
    mixed = composed(f"method={method}", "method.mixup.alpha=0.3").method
    assert mixed.mixup.alpha == 0.3  # type: ignore[attr-defined]


def test_dytox_has_neither_mixup_nor_sharpness_and_can_be_told_to() -> None:
    plain = composed("method=dytox").method
    assert (plain.mixup, plain.sam) == (None, None)  # type: ignore[attr-defined]
    told = composed("method=dytox", "method.mixup.alpha=0.8", "method.sam.rho=3").method
    plus = composed("method=dytox_plusplus").method
    for name in ("mixup", "sam"):
        assert getattr(told, name) == getattr(plus, name), name
    assert plus.mixup is not None  # type: ignore[attr-defined]


# ---- switches and the ablation -----------------------------------------------------------------------------------

OF_DKT = {
    "statistics_in_frozen": False,
    "general_token_in_finetuning": False,
    "classification_twice": False,
    "similarity_mean": "rows",
    "merge": "separate",
}
"""Switches that only a network or the loss of DKT reads -> another value than ``dkt_2023_06`` has."""
SWITCHES = sorted(
    {field.name for field in dataclasses.fields(RecipeConfig)}
    - {"name", "date", "replicas", "precision", "finetuning_order", *OF_DKT}
)


@pytest.mark.parametrize("switch", SWITCHES)
def test_every_quirk_of_a_recipe_is_ablated_alone(switch: str) -> None:
    network = ["method=dytox_plus", "model=convit_tiny", "model.drop_path=0.1"]  # which have all that switches switch
    published = composed("recipe=paper_2022_03", *network).recipe
    value = not getattr(published, switch)
    changed = composed("recipe=paper_2022_03", *network, f"recipe.{switch}={str(value).lower()}").recipe
    assert changed_switches(changed) == {switch: value}
    automatic = composed("data=cifar100_10steps").recipe
    value = not getattr(automatic, switch)
    changed = composed("method=dytox_plus", "data=cifar100_10steps", f"recipe.{switch}={str(value).lower()}").recipe
    assert (changed.name, changed_switches(changed)) == (automatic.name, {switch: value})


@pytest.mark.parametrize("switch", OF_DKT)
def test_every_quirk_of_dkt_is_ablated_alone(switch: str) -> None:
    network = ["method=dkt", "model=conv_vit_tiny", "recipe=dkt_2023_06"]
    assert getattr(composed(*network).recipe, switch) != OF_DKT[switch]
    changed = composed(*network, f"recipe.{switch}={str(OF_DKT[switch]).lower()}").recipe
    assert changed_switches(changed) == {switch: OF_DKT[switch]}


def test_what_the_recipes_differ_in() -> None:
    paper, erratum, clean = (
        vars(composed(f"recipe={name}").recipe) for name in ("paper_2022_03", "erratum_2022_06", "clean")
    )
    later = {key for key in paper if paper[key] != erratum[key]} - {"name", "date"}
    assert later == {"finetuning_order", "mixup_softmax"}
    assert {key for key in set(clean) - set(OF_DKT) if clean[key] == erratum[key]} == {
        "mixup_softmax", "distillation_class_mean", "herd_distinct", "herd_after_finetuning", "precision"
    }  # fmt: skip


WITHOUT = {
    "dkt_without_similarity": {"method.similarity_weight": 0.0},
    "dkt_without_duplex_head": {"method.head": "linear"},
    "dkt_without_cutout": {"data.cutout": 0},
    "dkt_at_dytox_rate": {
        "batch.size": 128,
        "batch.replicas": 2,
        "method.main.reference_batch": 512,
        "method.finetuning.reference_batch": 512,
    },
}
"""Experiment -> what it has in another way than DKT whole."""


@pytest.mark.parametrize("experiment", WITHOUT)
def test_each_part_of_dkt_is_taken_away_alone(experiment: str) -> None:
    whole, without = (numeric_settings(to_plain(composed(f"experiment={e}"))) for e in ("dkt_whole", experiment))
    assert {key: value for key, value in without.items() if whole[key] != value} == WITHOUT[experiment]


def test_four_pairs_of_encoder_and_decoder_are_trained_alike() -> None:
    pairs = ["dkt_whole", "dkt_on_convit", "dytox_as_dkt", "dytox_as_dkt_on_conv_vit"]
    found = [composed(f"experiment={name}") for name in pairs]
    assert [(config.method.name, config.model.name) for config in found] == [
        ("dkt", "conv_vit_cifar"), ("dkt", "convit_cifar"), ("dytox", "convit_cifar"), ("dytox", "conv_vit_cifar")
    ]  # fmt: skip
    for config in found:
        assert (config.data, config.batch, config.recipe, config.memory) == (
            found[0].data, found[0].batch, found[0].recipe, found[0].memory
        )  # fmt: skip
        assert config.method.main == found[0].method.main
        typed, first = (each.method.finetuning for each in (config, found[0]))  # type: ignore[attr-defined]
        assert dataclasses.replace(typed, epochs_scale=None) == first, "epochs that are typed have a scale, of 1 here"
        assert typed.epochs_scale in (None, 1.0)


ABLATION = ["none", "kd", "kd_finetuning", "tokens", "divergence", "whole"]
COMPONENTS = ["distillation", "finetuning", "token_expansion", "divergence_weight", "independent_heads"]


def test_the_ablation_adds_one_component_at_a_time() -> None:
    whole = composed("method=dytox", "data=cifar100_50steps").method
    rows = [composed(f"experiment=ablation_{name}") for name in ABLATION]
    for count, row in enumerate(rows):
        for index, component in enumerate(COMPONENTS):
            value = getattr(row.method, component)
            assert value == getattr(whole, component) if index < count else not value, (count, component)
        rest = dataclasses.replace(row, method=dataclasses.replace(row.method, **_components(whole)))
        assert rest == rows[-1], "nothing else differs"
    assert rows[-1].method == whole, "the last row is DyTox"


def _components(method: MethodConfig) -> dict[str, Any]:
    return {name: getattr(method, name) for name in COMPONENTS}


def test_the_ablation_s_setting() -> None:
    row = composed("experiment=ablation_none")
    assert (row.data.name, row.data.increment, row.recipe.name) == ("cifar100", 2, "paper_2022_03")
    assert (row.memory.budget, row.memory.size, row.memory.scope) == ("total", 2000, "global")
    assert changed_switches(row.recipe) == {}
    assert composed("experiment=ablation_none", "data.order=3", "memory.size=1000").memory.size == 1000


def test_simple_der_like_is_der_with_options_of_its_own() -> None:
    made = composed("experiment=simple_der_like", "data.root=nowhere")
    assert origin_of(made) == "adaptation"
    assert (made.method.pruning.rule, made.method.pruning.share) == ("scales", 0.25)  # type: ignore[attr-defined]
    assert list(trained_phases(made)) == ["main", "pruned_finetuning", "classifier"]
