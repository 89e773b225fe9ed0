"""Preprocessing that was left open: the weights' own where a network starts from weights by name, else as it was."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cl_lightning.config.check import check
from cl_lightning.config.compose import compose_typed
from cl_lightning.config.preprocess import fill_preprocess, preprocess_text, size_option
from cl_lightning.config.schema import DataConfig, ModelConfig, PreprocessConfig, SetConfig, TimmBackboneConfig
from cl_lightning.core.errors import UserError
from cl_lightning.core.missing_keys import complete_configuration
from tests.config.made import filled, given, idle

FOLDER = ["data=image_folder", "data.root=nowhere", "data.increment=2"]
CIFAR = ["data=cifar100_10steps"]
OF_DATA = {"crop_share": 0.875, "interpolation": "bicubic", "normalise": "data"}


def fill(
    *overrides: str, name: str = "vit_base_patch16_224", pretrained: bool = True, typed: tuple[str, ...] = ()
) -> DataConfig:
    """Return data for a network of timm's whose images follow its weights."""
    model = TimmBackboneConfig(name=name, patch_size=None, pretrained=pretrained, weights_file=None, frozen=True)
    return fill_preprocess(given(overrides).data, model, typed)


# ---- without weights by name -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "size", "resize"),
    [
        ([], 8, "whole"),
        (CIFAR, 32, "whole"),
        (FOLDER, 224, "crop"),
        ([*FOLDER, "data.image_size=32"], 32, "crop"),
        (["data=imagenet100_10steps", "data.root=nowhere"], 224, "crop"),
    ],
)
def test_filled_in_it_is_what_runs_from_before_had(overrides: list[str], size: int, resize: str) -> None:
    config = filled(*overrides)
    assert dataclasses.asdict(config.data.preprocess) == {"size": size, "resize": resize, **OF_DATA}
    assert preprocess_text(config.data) == "usual"
    saved = dataclasses.asdict(config)
    del saved["data"]["preprocess"]
    assert complete_configuration(saved)["data"]["preprocess"] == dataclasses.asdict(config.data.preprocess)


@pytest.mark.parametrize(("names", "resize"), [(["digits", "cifar100"], "whole"), (["digits", "cub200"], "crop")])
def test_sets_are_arrays_if_each_is(names: list[str], resize: str) -> None:
    data = dataclasses.replace(given(["data=sequence"]).data, sets=[SetConfig(name) for name in names])
    assert fill_preprocess(data, ModelConfig(name="resnet18")).preprocess.resize == resize
    saved = {"data": {"name": "sequence", "image_size": 32, "sets": [{"name": name} for name in names]}}
    assert complete_configuration(saved)["data"]["preprocess"]["resize"] == resize


def test_networks_are_made_for_what_they_see() -> None:
    large = filled(*CIFAR, "model=resnet18", "data.preprocess.size=224", "method=wa")
    small = filled(*CIFAR, "model=resnet18", "method=wa")
    assert (large.model.stem, small.model.stem) == ("large", "small")  # type: ignore[attr-defined]
    vit = ["method=meat", "model=timm"]
    assert filled(*CIFAR, *vit, "data.preprocess.size=224").model.patch_size is None  # type: ignore[attr-defined]
    assert filled(*CIFAR, *vit).model.patch_size == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize("data", [CIFAR, FOLDER])
def test_meat_sees_what_it_was_published_with(data: list[str]) -> None:
    """Weights of ``model=timm`` change nothing unasked."""
    config = filled(*data, "method=meat", "model=timm", "model.pretrained=true")
    before = filled(*data, "method=meat")
    assert config.data == before.data
    asked = filled(*data, "method=meat", "model=timm", "model.pretrained=true", "data.preprocess.normalise=weights")
    assert (asked.data.mean, asked.data.std) == ([0.5] * 3, [0.5] * 3)
    assert dataclasses.replace(asked.data.preprocess, normalise="data") == before.data.preprocess, "and nothing else"


# ---- weights by name ---------------------------------------------------------------------------------------------


def test_weights_by_name_have_their_own() -> None:
    data = fill(*CIFAR)
    assert data.preprocess == PreprocessConfig(
        size=224, resize="whole", crop_share=0.9, interpolation="bicubic", normalise="weights"
    )
    assert (data.mean, data.std, data.image_size) == ([0.5] * 3, [0.5] * 3, 32)
    assert preprocess_text(data) == "32 -> 224 px, whole, bicubic, the weights' own mean"


def test_files_are_cropped_as_their_weights_were() -> None:
    data = fill(*FOLDER, name="vit_base_patch16_384")
    assert (data.preprocess.size, data.preprocess.resize, data.preprocess.crop_share) == (384, "crop", 1.0)
    assert preprocess_text(data) == "384 px, crop 1, the weights' own mean"


def test_what_is_typed_wins() -> None:
    typed = [
        "data.preprocess.size=64", "data.preprocess.resize=crop", "data.preprocess.crop_share=0.875",
        "data.preprocess.interpolation=bilinear", "data.preprocess.normalise=none",
    ]  # fmt: skip
    data = fill(*CIFAR, *typed)
    assert data.preprocess == PreprocessConfig(
        size=64, resize="crop", crop_share=0.875, interpolation="bilinear", normalise="none"
    )
    assert data.mean == filled(*CIFAR).data.mean
    assert preprocess_text(data) == "32 -> 64 px, crop 0.875, bilinear, pixels in [0, 1]"


def test_a_mean_or_a_size_of_files_that_is_typed_wins_too() -> None:
    own = fill(*CIFAR, "data.mean=[0.1,0.2,0.3]", typed=("data.mean",))
    assert (own.preprocess.normalise, own.mean) == ("data", [0.1, 0.2, 0.3])
    files = fill(*FOLDER, "data.image_size=96", typed=("data.image_size",))
    assert files.preprocess.size == 96
    assert fill(*CIFAR, typed=("data.image_size",)).preprocess.size == 224, "the size of arrays is no choice"


def test_a_network_without_its_weights_has_the_data_s() -> None:
    data, usual = fill(*CIFAR, pretrained=False), filled(*CIFAR).data
    assert (data.preprocess, data.mean) == (usual.preprocess, usual.mean)


def test_more_than_the_image_is_the_whole_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from cl_lightning.config import preprocess
    from cl_lightning.models.timm_weights import ExpectedPreprocessing

    odd = ExpectedPreprocessing(224, 1.1, "lanczos", (0.5,) * 3, (0.5,) * 3)
    monkeypatch.setattr(preprocess, "expected", lambda _: odd)
    data = fill(*FOLDER)
    assert (data.preprocess.crop_share, data.preprocess.interpolation) == (1.0, "bicubic")


# ---- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (
            ["data.preprocess.normalise=weights"],
            "data.preprocess.normalise=weights needs weights by timm's name, and model=convit_tiny starts from none: "
            "type model.pretrained=true with model=timm_backbone or model=timm, or data.preprocess.normalise=data",
        ),
        (
            ["data.preprocess.size=15"],
            "data.preprocess.size=15 is not divisible by model.patch_size=2: type model=convit_tiny model.patch_size=3 "
            "or model=convit_tiny model.patch_size=5",
        ),
        (
            ["data.preprocess.size=1"],
            "data.preprocess.size=1 is not divisible by model.patch_size=2: type another data.preprocess.size",
        ),
        (
            [*FOLDER, "method=meat", "model=timm", "data.preprocess.size=100"],
            "data.preprocess.size=100 is not divisible by 16, the side of a patch of model.name=vit_tiny_patch16_224: "
            "type data.preprocess.size=96 or data.preprocess.size=112",
        ),
        (["data.preprocess.size=0"], "data.preprocess.size=0 is out of range: type data.preprocess.size=N with N at"),
        (["data.preprocess.resize=squash"], "data.preprocess.resize=squash is not a choice: type data.preprocess.res"),
        (
            [*FOLDER, "data.preprocess.crop_share=1.5"],
            "data.preprocess.crop_share=1.5 is out of range: type data.preprocess.crop_share=N with N at least 0.1 and",
        ),
        (
            ["data.preprocess.normalise=none", "data.mean=[0.1]"],
            "data.mean=[0.1] is read by nobody here: type data.preprocess.normalise=data as well, or leave it out",
        ),
        (
            ["data.preprocess.resize=crop"],
            "data.preprocess.resize=crop is read by nobody here (arrays keep their pixels): type "
            "data.preprocess.size=N as well, or leave it out",
        ),
        (
            [*FOLDER, "data.image_size=64", "data.preprocess.size=96", "model=resnet18", "method=wa"],
            "data.image_size=64 is read by nobody here: type data.preprocess.size=null as well, or leave it out",
        ),
    ],
)
def test_what_is_refused_is_told_in_a_line(typed: list[str], told: str) -> None:
    with pytest.raises(UserError) as refused:
        compose_typed(["run_dir=run", *typed])
    line = str(refused.value)
    assert line.startswith(told)
    assert "\n" not in line


def test_a_mean_beside_that_of_weights_is_read_by_nobody() -> None:
    typed = ["method=meat", "model=timm", "model.pretrained=true", "data.mean=[0.1,0.1,0.1]"]
    of_weights = [*CIFAR, *typed, "data.preprocess.normalise=weights"]
    assert idle(*of_weights) == {"data.mean": "data.preprocess.normalise=data"}
    assert idle(*CIFAR, *typed) == {}


def test_a_name_that_timm_does_not_know_is_told() -> None:
    with pytest.raises(
        UserError, match=r"^model\.name=vit_bose_patch16_224 is not a timm model: type model\.name=vit_"
    ):
        compose_typed(
            [
                "run_dir=run", "method=meat", "model=timm", "model.pretrained=true", "model.name=vit_bose_patch16_224",
                "data.preprocess.normalise=weights",
            ]
        )  # fmt: skip


@pytest.mark.parametrize(
    ("typed", "told", "option"),
    [
        (["data.preprocess.crop_share=0.9"], "crop 0.9", "data.image_size"),
        (
            ["data.preprocess.resize=whole", "data.preprocess.interpolation=bilinear"],
            "whole, bilinear",
            "data.image_size",
        ),
        (
            ["data.preprocess.size=96", "data.preprocess.normalise=none"],
            "96 px, pixels in [0, 1]",
            "data.preprocess.size",
        ),
    ],
)
def test_what_is_unusual_about_files(typed: list[str], told: str, option: str) -> None:
    data = filled(*FOLDER, *typed).data
    assert (preprocess_text(data), size_option(data)) == (told, option)


def test_a_saved_configuration_may_be_checked_again() -> None:
    """As ``learn=`` does."""
    config: Any = filled(*CIFAR, "data.preprocess.size=64", "data.preprocess.resize=crop")
    check(config)


def test_a_network_of_timm_s_follows_its_weights_from_the_command_line() -> None:
    config = filled(*CIFAR, "method=finetune", "model=timm_backbone", "model.pretrained=true")
    assert (config.data.preprocess.size, config.data.preprocess.normalise) == (224, "weights")
    assert config.data.mean == [0.485, 0.456, 0.406]
    drawn = filled(*CIFAR, "method=finetune", "model=timm_backbone")
    assert drawn.data == filled(*CIFAR, "method=finetune").data
    file = ["model=timm_backbone", "model.weights_file=w.pth", "data.preprocess.normalise=weights"]
    from_file = filled(*CIFAR, "method=finetune", *file)
    check(from_file)
    assert (from_file.data.preprocess.size, from_file.data.mean) == (224, [0.485, 0.456, 0.406])
