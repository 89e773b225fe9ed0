"""From a configuration to phases, and to what is told of the recipe."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cl_lightning.config.compose import compose_one_of_many, compose_typed
from cl_lightning.config.fill_auto import unread_switches
from cl_lightning.config.schema import RecipeConfig
from cl_lightning.core.rng import Key
from cl_lightning.core.types import Fit, Order, Phase, PlanItem, View
from cl_lightning.factory.data import build_scenario
from cl_lightning.factory.methods import build_method
from cl_lightning.methods.base import Method
from cl_lightning.run.opening import opening
from cl_lightning.run.run_dir import RunDirectory

pytestmark = pytest.mark.slow


def built(*overrides: str) -> tuple[Method, list[PlanItem]]:
    """A method on digits as a run builds it, and its plan of the last task."""
    config, _ = compose_one_of_many(["run_dir=unused", *overrides])
    scenario = build_scenario(config)
    method = build_method(config, scenario, Key(0))
    return method, list(method.plan(scenario.tasks[-1]))


def phase(name: str, *overrides: str) -> Phase:
    (found,) = [item.phase for item in built(*overrides)[1] if isinstance(item, Fit) and item.phase.name == name]
    return found


def test_a_single_task_is_fine_tuned_on_its_exemplars_whenever_others_are_herded() -> None:
    """A balanced view takes as many new images as there are of an old class: of none it would take all."""
    single = ["data.increment=10", "recipe.finetune_joint=true"]
    late = [*single, "recipe.herd_after_finetuning=true"]
    assert built(*late)[1] == built(*single)[1]
    assert phase("finetuning", *late).view is View.MEMORY
    assert phase("finetuning", "recipe.herd_after_finetuning=true").view is View.BALANCED, "of several tasks"


@pytest.mark.parametrize(("lr_scale", "lr", "warmup_lr"), [(1.0, 0.1, 0.01), (4.0, 0.4, 0.01), (0.02, 0.002, 0.002)])
def test_a_warm_up_never_leads_down(lr_scale: float, lr: float, warmup_lr: float) -> None:
    main = phase("main", "method=wa", f"lr_scale={lr_scale}")
    assert (main.optimiser.lr, main.schedule.warmup_lr) == (pytest.approx(lr), pytest.approx(warmup_lr))


def test_images_that_are_not_augmented_are_not_repeated() -> None:
    """Three copies of a third of the held-out images would be equal; the recipe is about augmentation."""
    recipe = ("method=bic", "data.increment=5", "recipe=paper_2022_03")
    assert phase("main", *recipe).sampling.order is Order.REPEATED
    correction = phase("bias_correction", *recipe)
    assert (correction.augmented, correction.sampling.order) == (False, Order.SHUFFLED)


def test_a_floor_is_never_above_the_rate() -> None:
    assert phase("main", "lr_scale=0.01").schedule.min_lr == pytest.approx(5e-6)
    assert phase("main", "lr_scale=1").schedule.min_lr == pytest.approx(1e-5)


def told(tmp_path: Path, *overrides: str) -> str:
    config, _ = compose_one_of_many([f"run_dir={tmp_path}", *overrides])
    scenario = build_scenario(config)
    method = build_method(config, scenario, Key(0))
    notes = RunDirectory(config, scenario, method, tmp_path).notes
    told = opening(config, scenario, tmp_path, notes=notes)
    return "\n".join([*told.lines, *told.notes, *told.details])


def test_switches_that_a_method_does_not_read_are_not_printed_as_in_force(tmp_path: Path) -> None:
    assert "herd_augmented=False" in told(tmp_path)
    plain = told(tmp_path, "method=wa")
    assert "schedule_lag=False" in plain
    assert "herd_augmented" not in plain
    line = "recipe.herd_augmented=True: method=wa does not read it, DyTox and DAFormer do"
    assert line in told(tmp_path, "method=wa", "recipe.herd_augmented=true")
    assert "does not read it" not in told(tmp_path, "recipe.herd_augmented=true")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["finetune", "joint", "icarl", "wa", "der", "meat", "individual"])
def test_what_is_declared_unread_changes_no_plan(method: str) -> None:
    """A method that comes to read one of these switches fails here: ``config/fill_auto.py`` lists them."""
    config = compose_typed(["run_dir=unused", f"method={method}"])
    unread = unread_switches(config.method)
    assert unread
    assert set(unread) <= {field.name for field in dataclasses.fields(RecipeConfig)}
    others = {name: not getattr(config.recipe, name) for name in unread}
    others |= {"finetuning_order": "sequential", "merge": "separate", "similarity_mean": "rows"}
    changed = [f"recipe.{name}={str(value).lower()}" for name, value in others.items()]
    assert built(f"method={method}", *changed)[1] == built(f"method={method}")[1]
