"""Networks in a bundle: of the kind and the sizes that the configuration says, or not built at all."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_lightning.bundle.network_check import method_with_network
from cl_lightning.core.rng import Key
from cl_lightning.data.scenarios.scenario import without_images
from cl_lightning.factory.methods import build_method
from cl_lightning.models import build
from tests.config.made import filled

SMALL = ("model=convit_tiny", "model.dim=8", "model.num_heads=2", "model.depth=1", "model.patch_size=4")
CONFIG = filled("method=dytox", *SMALL)
SCENARIO = without_images("digits", list("abcd"), (2, 2), 8, 1)


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """The state of a run that has learnt both tasks, with a teacher of the first."""
    network = build_method(CONFIG, SCENARIO, Key(0)).network
    network.grow(2, Key(1))
    teacher = part(network)
    network.grow(2, Key(2))
    return {"network": part(network), "teacher": teacher}


def part(network: Any) -> dict[str, Any]:
    return {"structure": copy.deepcopy(network.structure()), "weights": copy.deepcopy(dict(network.state_dict()))}


@pytest.fixture
def payload(whole: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(whole)


def refusal(payload: dict[str, Any]) -> str:
    with pytest.raises(ValueError) as refused:
        method_with_network(CONFIG, SCENARIO, payload)
    return str(refused.value)


def test_what_a_run_has_written_is_its_method_s_network(payload: dict[str, Any]) -> None:
    method = method_with_network(CONFIG, SCENARIO, payload)
    assert not method.network.training
    assert method.network.structure() == payload["network"]["structure"]
    for name, weight in method.network.state_dict().items():
        assert torch.equal(weight, payload["network"]["weights"][name])


def test_a_teacher_is_looked_at_too_and_need_not_be_there(payload: dict[str, Any]) -> None:
    payload["teacher"]["structure"]["encoder"]["depth"] = 2
    assert refusal(payload) == "its teacher has depth=2, which is not what its config.yaml says"
    payload["teacher"] = None
    method_with_network(CONFIG, SCENARIO, payload)


def test_a_linear_classifier_may_be_gone_and_sums_are_no_smaller_than_the_projection() -> None:
    config = filled("method=ranpac", "method.projection=30", "model=resnet8")
    network: Any = build_method(config, SCENARIO, Key(config.seed)).network
    for _ in range(2):
        network.grow(2, Key(0))
    network.classifier.fill(torch.ones(4, 30))
    written = {"network": part(network), "teacher": None, "extra": {"gram": torch.zeros(30 * 31 // 2)}}
    assert method_with_network(config, SCENARIO, written).network.structure()["linear"] is False
    larger = filled("method=ranpac", "method.projection=99999", "model=resnet8")
    with pytest.raises(ValueError, match=r"method\.projection=99999 is not that of its 465 sums"):
        method_with_network(larger, SCENARIO, written)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"kind": "embedding_network"}, "its network has kind=embedding_network, which is not what its config.yaml"),
        ({"diverge": False}, "its network has diverge=False, which is not what its config.yaml says"),
        ({"classes": [2, 3]}, "its network has learnt tasks of [2, 3] classes, the run of [2, 2]"),
        ({"classes": [2, 2, 2]}, "its network has learnt tasks of [2, 2, 2] classes"),
        ({"classes": 4}, "the classes of its network is 4, not a list"),
        ({"encoder": {"kind": "convit"}}, "the description of its network is not whole (TypeError: "),
    ],
    ids=["kind", "head", "classes", "more tasks", "no list", "cut"],
)
def test_a_description_of_something_else_is_refused(change: dict[str, Any], line: str, payload: dict[str, Any]) -> None:
    payload["network"]["structure"].update(change)
    assert refusal(payload).startswith(line)


def test_weights_of_other_shapes_kinds_or_names_are_refused(payload: dict[str, Any]) -> None:
    weights = payload["network"]["weights"]
    name = next(name for name, weight in weights.items() if weight.ndim == 2)
    shape = weights[name]
    weights[name] = shape.T[:-1]
    assert refusal(payload).startswith("the weights of its network are not those of its description (")
    weights[name] = shape.double()
    assert refusal(payload) == f"{name!a} of its network is torch.float64, not torch.float32"
    del weights[name]
    assert "Missing key(s)" in refusal(payload)


@pytest.mark.parametrize("size", ["model.dim=131072", "model.depth=2000"])
def test_a_network_that_is_far_too_large_is_refused_before_it_is_built(
    size: str, payload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []
    monkeypatch.setattr(build, "build_encoder", lambda structure: built.append(structure))
    for weights in (payload["network"]["weights"], payload["teacher"]["weights"]):
        for name in list(weights)[1:]:
            del weights[name]
    huge = filled("method=dytox", *SMALL, size)
    with pytest.raises(ValueError, match=rf"{size.replace('.', '[.]')} is not that of its \d+ weights"):
        method_with_network(huge, SCENARIO, payload)
    assert built == []


TIMM = ("method=wa", "model=timm_backbone", "model.name=test_resnet")


def test_a_network_of_timms_is_one_of_its_names_and_no_larger_than_its_weights() -> None:
    config = filled(*TIMM)
    network = build_method(config, SCENARIO, Key(0)).network
    network.grow(2, Key(1))
    payload = {"network": part(network), "teacher": None}
    assert method_with_network(config, SCENARIO, payload).network.structure() == network.structure()
    for name, line in {
        "hf-hub:timm/test_resnet": "is not a timm model",
        "regnety_1280": "at 8 pixels is not that of its",
        "resnet10t": "model.name=resnet10t at 8 pixels is not that of its",
    }.items():
        with pytest.raises(ValueError, match=line):
            method_with_network(filled(*TIMM[:2], f"model.name={name}"), SCENARIO, payload)
    far = without_images("digits", list("abcd"), (2, 2), 16384, 1)
    with pytest.raises(ValueError, match=r"data\.image_size=16384 is far more than the 160 pixels"):
        method_with_network(config, far, payload)


@pytest.mark.parametrize("method", ["finetune", "dytox", "meat"])
def test_an_encoder_of_timms_is_no_larger_than_its_weights_either(method: str) -> None:
    options = (f"method={method}", "model=timm", "model.patch_size=4")
    config = filled(*options, "model.name=test_vit")
    network = build_method(config, SCENARIO, Key(0)).network
    network.grow(2, Key(1))
    payload = {"network": part(network), "teacher": None}
    method_with_network(config, SCENARIO, payload)
    with pytest.raises(ValueError, match="at 8 pixels is not that of its"):
        method_with_network(filled(*options, "model.name=vit_gigantic_patch14_224"), SCENARIO, payload)


def test_a_file_of_weights_that_a_configuration_names_is_not_read(tmp_path: Path) -> None:
    config = filled(*TIMM, f"model.weights_file={tmp_path / 'none.pth'}")
    network = build_method(config, SCENARIO, Key(0)).network
    network.grow(2, Key(1))
    method_with_network(config, SCENARIO, {"network": part(network), "teacher": None})
