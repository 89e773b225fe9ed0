"""Labels of methods and of runs, by their configuration."""

from __future__ import annotations

import pytest
import yaml

from cl_lightning.config.origin import origin_of
from cl_lightning.config.registry import SCHEMAS
from cl_lightning.config.schema.method import ENCODERS
from cl_lightning.config.yaml_files import config_dir, options
from cl_lightning.core.origins import ORIGINS
from tests.config.made import filled

LABELS = {
    "dytox": "published",
    "dytox_plus": "published",
    "dytox_plusplus": "published",
    "dkt": "published",
    "daformer_m": "reconstruction",
    "daformer_s": "reconstruction",
    "meat": "reconstruction",
    "piggyback": "adaptation",
    "classifier_only": "reference",
    "individual": "reference",
    "lwf": "adaptation",
    "hat": "adaptation",
    "icarl": "published recipe",
    "ucir": "published recipe",
    "podnet": "published recipe",
    "rpsnet": "reconstruction",
    "wa": "published recipe",
    "der": "published",
    "finetune": "reference",
    "joint": "reference",
}


def test_a_run_with_another_paper_s_rebuilt_branch_is_a_reconstruction() -> None:
    branch = "method.reconstruction.weight=1"
    assert origin_of(filled("method=dytox", branch)) == "reconstruction"
    assert origin_of(filled("method=dytox", "method.reconstruction.weight=0")) == "published"
    assert origin_of(filled("method=dytox", branch, "model=timm")) == "adaptation"


@pytest.mark.parametrize(
    ("typed", "label"),
    [
        (["method.pruning.rule=none", "method.pruning.sparsity=3"], "published"),
        (["method.pruning.rule=masks"], "reconstruction"),
        (["method.pruning.rule=scales"], "adaptation"),
        (["method.kd_weight=1"], "adaptation"),
        (["method.pruning.rule=masks", "method.kd_weight=1"], "adaptation"),
    ],
)
def test_der_is_published_without_pruning_alone(typed: list[str], label: str) -> None:
    assert origin_of(filled("method=der", *typed)) == label


@pytest.mark.parametrize("method", options("method"))
def test_each_option_of_a_method_says_itself_what_it_is(method: str) -> None:
    """A file that starts from another one does not have its label by silence."""
    own = yaml.safe_load((config_dir() / "method" / f"{method}.yaml").read_text(encoding="utf-8"))
    assert own.get("origin") in ORIGINS, f"conf/method/{method}.yaml: write origin: with one of {', '.join(ORIGINS)}"


@pytest.mark.parametrize("method", LABELS)
@pytest.mark.parametrize("data", ["digits", "cifar100", "image_folder"])
def test_a_run_on_the_network_that_the_data_suggest_has_its_methods_label(method: str, data: str) -> None:
    of_data = [] if data == "digits" else ["data.root=nowhere", "data.increment=2"]
    assert origin_of(filled(f"method={method}", f"data={data}", *of_data)) == LABELS[method]


@pytest.mark.parametrize(
    ("overrides", "label"),
    [
        (("method=icarl", "model=resnet32"), "published recipe"),
        (("method=icarl", "model=convit_tiny"), "adaptation"),
        (("method=icarl", "model=timm"), "adaptation"),
        (("method=icarl", "model=timm_backbone"), "adaptation"),
        (("method=finetune", "model=timm_backbone"), "reference"),
        (("method=dytox", "model=timm"), "adaptation"),
        (("method=daformer_m", "model=timm"), "adaptation"),
        (("method=meat", "model=timm"), "reconstruction"),
        (("method=lwf", "model=convit_tiny"), "adaptation"),
        (("method=hat", "model=alexnet"), "adaptation"),
        (("method=finetune", "model=resnet8"), "reference"),
        (("method=joint", "model=resnet18"), "reference"),
    ],
)
def test_another_kind_of_network_makes_an_adaptation(overrides: tuple[str, ...], label: str) -> None:
    assert origin_of(filled(*overrides)) == label


def test_every_model_says_of_what_kind_it_is() -> None:
    kinds = {name: schema.encoder for name, schema in SCHEMAS["model"].items() if name != "auto"}  # type: ignore[attr-defined]
    assert kinds.pop("timm_backbone") == "any"
    assert set(kinds.values()) == set(ENCODERS)
