"""What may be left open while options are composed is a value in a run."""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import dataclass

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import ValidationError

from cl_lightning.config.registry import SCHEMAS
from cl_lightning.config.schema import Config, ConViTConfig, MethodConfig, TimmConfig
from cl_lightning.config.schema.bounds import bounds_of, whole
from cl_lightning.config.schema.open_options import Filled, closed, is_filled_in, opened
from tests.config.made import filled, given


@dataclass(kw_only=True)
class Inner:
    size: Filled[int] = whole(at_most=9)
    name: str


@dataclass(kw_only=True)
class Outer:
    one: Inner
    maybe: Inner | None
    several: list[Inner]


@dataclass(kw_only=True)
class Longer(Inner):
    more: float


def test_a_type_to_compose_with_takes_null_where_something_is_filled_in_alone() -> None:
    node = OmegaConf.structured(opened(Outer))
    made = OmegaConf.merge(
        node, {"one": {"size": None, "name": "a"}, "maybe": None, "several": [{"size": 2, "name": "b"}]}
    )
    options = OmegaConf.to_object(made)
    assert isinstance(options, Outer)
    assert (options.one.size, options.several[0].size) == (None, 2)
    with pytest.raises(ValidationError):
        OmegaConf.merge(node, {"one": {"name": None}})


def test_it_is_called_as_the_schema_and_knows_its_bounds_and_bases() -> None:
    assert opened(Longer).__name__ == "Longer"
    assert opened(Longer) is opened(Longer)
    assert issubclass(opened(Longer), opened(Inner))
    first, *_ = dataclasses.fields(opened(Longer))  # type: ignore[arg-type]
    assert bounds_of(first) == bounds_of(dataclasses.fields(Inner)[0])
    assert [f.name for f in dataclasses.fields(opened(Longer))] == [f.name for f in dataclasses.fields(Longer)]  # type: ignore[arg-type]


def test_what_is_filled_in_is_of_the_schema_itself() -> None:
    inner = opened(Inner)
    options = opened(Outer)(one=inner(size=1, name="a"), maybe=None, several=[inner(size=2, name="b")])
    made = closed(options)
    assert made == Outer(one=Inner(size=1, name="a"), maybe=None, several=[Inner(size=2, name="b")])
    assert closed(made) == made
    assert pickle.loads(pickle.dumps(made)) == made


def test_what_was_left_open_is_our_mistake() -> None:
    with pytest.raises(TypeError, match="Inner: nothing was filled in for size"):
        closed(opened(Outer)(one=opened(Inner)(size=None, name="a"), maybe=None, several=[]))


def test_a_value_is_asked_for() -> None:
    with pytest.raises(TypeError, match="size"):
        Inner(name="a")


@pytest.mark.parametrize("method", sorted(SCHEMAS["method"]))
def test_a_run_has_the_schemas_own_types(method: str) -> None:
    """Composed with derived ones, which know null; whoever gets a ``Config`` never meets it."""
    name = {"daformer": "daformer_m"}.get(method, method)
    composed, config = given([f"method={name}"]), filled(f"method={name}")
    assert composed.batch.size is None
    assert type(config) is Config
    assert type(config.method) is SCHEMAS["method"][method]
    assert isinstance(composed.method, MethodConfig)


def test_patches_are_left_to_timm_where_it_knows_better() -> None:
    assert is_filled_in(ConViTConfig, "patch_size")
    assert not is_filled_in(TimmConfig, "patch_size")


@pytest.mark.parametrize(
    ("switch", "value"),
    [
        ("schedule_lag", False),
        ("distillation_class_mean", False),
        ("finetuning_order", "shuffled"),
        ("replicas", 1),
        ("precision", "32-true"),
    ],
)
def test_null_beside_a_recipe_that_has_a_name_means_what_it_meant(switch: str, value: object) -> None:
    config = filled("recipe=erratum_2022_06", f"recipe.{switch}=null")
    assert getattr(config.recipe, switch) == value
    assert (config.batch.replicas, config.trainer.precision) == (1 if switch == "replicas" else 2, "32-true")
