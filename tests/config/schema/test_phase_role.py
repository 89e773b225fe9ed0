"""A phase that a method's options gain is known wherever phases are: nothing else names them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from cl_lightning.compare.settings import differing
from cl_lightning.config.add_task import free_keys
from cl_lightning.config.registry import SCHEMAS
from cl_lightning.config.schedule_scales import (
    all_phases,
    as_typed,
    epochs_of,
    phases_in,
    phases_of,
    scale_name,
    trained_phases,
    trains_balanced,
)
from cl_lightning.config.schema import Config
from cl_lightning.config.schema.method import FinetuneConfig, MethodConfig, PhaseConfig
from cl_lightning.config.schema.phase_role import role
from cl_lightning.core.missing_keys import complete_configuration
from cl_lightning.run.protocol import epochs, method_options
from tests.config.made import filled


@dataclass
class MadeUpConfig(MethodConfig):
    """Options of a method that is not there, with a phase that no other has."""

    bias: PhaseConfig = field(default_factory=PhaseConfig, metadata=role(balanced=True))


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(SCHEMAS["method"], "made_up", MadeUpConfig)
    yield
    phases_in.cache_clear()


def config(*overrides: str) -> Config:
    """As of plain training, with a phase of two hundred epochs more."""
    made = filled("method=finetune", "epochs_scale=1", "balanced_epochs_scale=0.1", *overrides)
    main = dataclasses.replace(made.method.main, epochs=7)
    bias = dataclasses.replace(main, epochs=200)
    names = ("name", "origin", "encoder", "recipe", "augmentation", "rehearsal")
    shared = {name: getattr(made.method, name) for name in names}
    return dataclasses.replace(made, method=MadeUpConfig(**shared, main=main, bias=bias))


def test_what_there_was_before_is_as_it_was() -> None:
    balanced = {name: use.balanced for name, use in all_phases().items() if name != "bias"}
    assert list(balanced.items()) == [
        ("first", False),
        ("backbone", False),
        ("adaptation", False),
        ("main", False),
        ("finetuning", True),
        ("balanced_finetuning", True),
        ("bias_correction", True),
        ("balanced", True),
        ("pruned_finetuning", False),
        ("classifier", True),
    ]
    assert list(phases_in(SCHEMAS["method"]["meat"])) == ["backbone", "main"], "as they follow one another"


@pytest.mark.parametrize("name", SCHEMAS["method"])
def test_a_phase_s_name_means_one_thing_in_all_methods(name: str) -> None:
    of_all = all_phases()
    assert {phase: of_all[phase] for phase in phases_in(SCHEMAS["method"][name])} == phases_in(SCHEMAS["method"][name])


def test_it_is_among_the_phases_with_its_scale() -> None:
    made = config()
    assert list(all_phases())[-1] == "bias"
    assert list(phases_of(made.method)) == ["main", "bias"]
    assert scale_name(made.method, "bias") == "balanced_epochs_scale"
    assert epochs_of("bias", made.method.bias, made) == 20  # type: ignore[attr-defined]
    assert epochs(made) == "7 main + 20 bias"


def test_without_a_memory_it_is_not_there() -> None:
    assert list(trained_phases(config("memory=none"))) == ["main"]
    assert (trains_balanced(config()), trains_balanced(config("memory=none"))) == (True, False)


def test_what_is_typed_of_it_is_taken_out_of_what_the_data_suggest() -> None:
    method = as_typed(config().method, ["method.bias.epochs"], {"balanced_epochs_scale": 0.5, "epochs_scale": 0.5})
    assert isinstance(method, MadeUpConfig)
    assert (method.bias.epochs_scale, method.main.epochs_scale) == (1.0, None)


def test_a_later_task_may_be_told_of_it() -> None:
    assert "method.bias." in free_keys()
    assert "method.backbone." not in free_keys(), "only the first task trains it"


def test_files_that_lack_its_scales_are_completed() -> None:
    main, bias = {"epochs": 7, "optimiser": "sgd"}, {"epochs": 200, "optimiser": "sgd"}
    own = {"epochs_scale": None, "lr_scale": None}
    method = complete_configuration({"method": {"name": "made_up", "main": main, "bias": bias}})["method"]
    assert (method["main"], method["bias"]) == ({**main, **own}, {**bias, **own})
    assert "epochs_scale" not in method_options(config().method)["bias"], "null says nothing"


def test_in_a_comparison_it_is_small_print() -> None:
    one = {"method.bias.epochs": 200, "method.bias.lr": 0.1, "method.temperature": 2.0, "epochs": "7 main"}
    other = {"method.bias.epochs": 100, "method.bias.lr": 0.2, "method.temperature": 1.0, "epochs": "8 main"}
    assert differing([one, other]) == ["method.temperature", "epochs", "method.bias.epochs", "method.bias.lr"]


READERS = """
import json
from dataclasses import dataclass, field
from cl_lightning.config import registry
from cl_lightning.config.schema.method import MethodConfig, PhaseConfig
from cl_lightning.config.schema.phase_role import role

@dataclass
class MadeUpConfig(MethodConfig):
    bias: PhaseConfig = field(default_factory=PhaseConfig, metadata=role(balanced=True))

registry.SCHEMAS["method"]["made_up"] = MadeUpConfig
from cl_lightning.config.unused.used_by import BY_KEY
keys = [key for key in BY_KEY if f"{key}.".startswith("method.bias.")]
print(json.dumps({key: [need.type for need in BY_KEY[key].needs] for key in keys}))
"""


def test_its_options_are_read_under_the_conditions_of_its_kind() -> None:
    """In a process of its own: the table is made when it is imported."""
    done = subprocess.run([sys.executable, "-c", READERS], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert set(found) == {"method.bias", *(f"method.bias.{option.name}" for option in dataclasses.fields(PhaseConfig))}
    keeps = ["a method that keeps exemplars, such as method=dytox", "method.rehearsal=true"]
    memory = [*keeps, "memory=total or memory=per_class"]
    assert found["method.bias.epochs"] == memory
    assert found["method.bias.gamma"] == [*memory, "method.bias.schedule=steps", "method.bias.milestones=[0.5,0.8]"]


def test_a_field_without_metadata_is_a_phase_of_every_task() -> None:
    @dataclass
    class Plain(FinetuneConfig):
        second: PhaseConfig | None = None

    (use,) = [use for name, use in phases_in(Plain).items() if name == "second"]
    assert (use.balanced, use.first_task_if, use.scale) == (False, None, "epochs_scale")
