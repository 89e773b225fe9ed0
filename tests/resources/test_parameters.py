"""Counts by arithmetic are those of the networks themselves."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cl_lightning.config.registry import SCHEMAS
from cl_lightning.config.schema import Config, ModelConfig
from cl_lightning.core.errors import UserError
from cl_lightning.core.rng import Key
from cl_lightning.factory.methods import build_method
from cl_lightning.factory.scenario import dataset_scenario
from cl_lightning.resources.parameters import MODELS, count
from tests.config.made import filled

CASES = [
    "method=dytox",
    "method=dytox model=convit_cifar",
    "method=dytox model=convit_tiny model.dim=48 model.num_heads=3 model.depth=2 model.mlp_ratio=3.3",
    "method=dytox model=timm model.patch_size=2",
    "method=daformer_m",
    "method=daformer_s method.out_proj=true model=convit_cifar model.patch_size=2",
    "method=dkt",
    "method=dkt model=conv_vit_cifar model.patch_size=2",
    "method=dkt model=convit_tiny method.decoder_mlp=linear method.decoder_bias=false",
    "method=dytox model=conv_vit_tiny model.general_token=false",
    "method=finetune model=convit_tiny",
    "method=finetune model=timm model.patch_size=2",
    "method=joint",
    "method=icarl",
    "method=lwf",
    "method=lwf method.old_rows=frozen model=convit_tiny",
    "method=ucir model=resnet32 model.shortcut=projection",
    "method=podnet",
    "method=bic",
    "method=rpsnet",
    "method=finetune model=path_net model.stem=large",
    "method=e2e",
    "method=wa model=resnet32",
    "method=der model=resnet18",
    "method=der model=convit_tiny",
    "method=finetune model=resnet18 model.width=16 model.stem=large",
    "method=icarl model=timm_backbone model.name=resnet10t",
    "method=der model=timm_backbone model.name=vit_tiny_patch16_224 model.patch_size=4",
    "method=meat",
    "method=meat method.backbone_file=given",
    "method=classifier_only method.backbone_file=given",
    "method=hat",
    "method=hat model=alexnet",
    "method=hat model=vit_cifar",
    "method=hat model=timm model.patch_size=2",
    "method=finetune model=alexnet_tiny",
    "method=simplecil",
    "method=simplecil model=vit_tiny method.backbone_file=given",
    "method=simplecil model=convit_tiny",
    "method=ranpac method.projection=200",
    "method=ranpac method.projection=0 model=resnet18",
    "method=ranpac method.projection=50 model=timm model.patch_size=2",
    "method=ranpac model=vit_tiny method.adapt=true method.backbone_file=F",
    "method=finetune model=vit_tiny",
    "method=individual model=vit_cifar",
    "method=meat model=timm model.patch_size=2",
]


def _first_task(config: Config) -> Any:
    scenario = dataset_scenario(config.data)
    network = build_method(config, scenario, Key(0)).network
    network.grow(scenario.tasks[0].num_new, Key(0))
    return network


@pytest.mark.parametrize("case", CASES)
def test_parameters_are_counted_without_a_network(case: str) -> None:
    config = filled(*case.split())
    network, counts = _first_task(config), count(config, 8, 1)
    real = sum(parameter.numel() for parameter in network.parameters())
    assert 0.97 * real < counts.weights <= real, "never more than there are"
    assert counts.trained <= counts.weights
    stored = sum(buffer.numel() for buffer in network.buffers())
    assert 0 <= counts.fixed <= stored


def test_what_each_patch_knows_of_each_other_is_counted() -> None:
    config = filled("method=dytox", "model=convit_cifar", "model.patch_size=1")
    network = _first_task(config)
    assert count(config, 8, 1).fixed == sum(buffer.numel() for buffer in network.buffers())


def test_every_model_has_a_forecast() -> None:
    """Who adds a model says here how many numbers it has."""
    assert set(MODELS) == set(SCHEMAS["model"].values()) - {ModelConfig}


def test_every_model_and_method_is_among_the_cases() -> None:
    made = [filled(*case.split()) for case in CASES]
    assert {type(config.model) for config in made} == set(MODELS)
    assert {type(config.method) for config in made} == set(SCHEMAS["method"].values())


def test_a_network_that_could_never_be_made_is_counted_at_once() -> None:
    config = filled("method=dytox", "model=convit_tiny")
    model: Any = dataclasses.replace(config.model, dim=10**6, depth=10**6)  # type: ignore[call-arg]
    assert count(dataclasses.replace(config, model=model), 10**6, 3).weights > 10**18


def test_a_model_that_timm_has_otherwise_is_told_by_its_option() -> None:
    """And by the model that takes any network, where the method reads vectors."""
    line = r"^model\.name=resnet18 .* type model\.name=vit_tiny_patch16_224"
    for method, is_advised in (("wa", True), ("dytox", False), ("meat", False)):
        config = filled(f"method={method}", "model=timm", "model.name=resnet18")
        with pytest.raises(UserError, match=line) as refused:
            count(config, 8, 1)
        advice = "take model=timm_backbone, which reads any of timm's networks"
        assert (advice in str(refused.value)) == is_advised


def test_a_frozen_network_needs_no_gradients() -> None:
    config = filled("method=wa", "model=timm_backbone", "model.name=test_resnet", "model.frozen=true")
    counts = count(config, 8, 1)
    assert (counts.trained, counts.stored_per_image) == (0, 0)
    assert counts.weights > 3e5


def test_weights_that_timm_does_not_have_are_missed_before_anything_is_built() -> None:
    config = filled("method=wa", "model=timm_backbone", "model.name=convnext_atto_rms", "model.pretrained=true")
    with pytest.raises(UserError, match=r"^model\.pretrained=true: timm has no weights of convnext_atto_rms"):
        count(config, 32, 3)
