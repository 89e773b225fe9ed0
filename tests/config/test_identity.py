"""What makes two configurations the same experiment."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from cl_lightning.config.compose import compose_typed
from cl_lightning.config.identity import (
    checkpoint_settings,
    differences,
    numeric_settings,
    refuse_edits,
    with_names_of_files,
)

pytestmark = pytest.mark.slow


@cache
def of(*overrides: str) -> dict[str, object]:
    return numeric_settings(dataclasses.asdict(compose_typed(["run_dir=unused", *overrides])))


def test_where_and_how_fast_does_not_count() -> None:
    changed = [
        "trainer=cpu",
        "trainer.workers=2",
        "logger=wandb",
        "data.root=elsewhere",
        "batch.evaluation=7",
        "data.on_broken=skip",
        "trainer.checkpoint_steps=7",
        "if_exists=resume",
        "evaluate_phases=true",
    ]
    files = "data=imagenet100_10steps"
    assert differences(of(files, *changed), of(files)) == []


@pytest.mark.slow
def test_where_the_sets_of_a_sequence_are_does_not_count() -> None:
    entries = "data.sets=[{{name: digits, classes: {}}}, {{name: cub200, root: {}, on_broken: {}}}]"
    here, there, other = (
        of("data=sequence", entries.format(*rest)) for rest in ((4, "a", "skip"), (4, "b", "error"), (5, "a", "skip"))
    )
    assert differences(here, there) == []
    (told,) = differences(here, other)
    assert told.startswith("data.sets=[{'name': 'digits'")


@pytest.mark.slow
def test_everything_else_does() -> None:
    for override in ("seed=1", "data.order=seed:3", "memory.size=100", "recipe.herd_augmented=true", "lr_scale=1"):
        key, _, value = override.partition("=")
        (told,) = differences(of(override), of())
        assert told.lower().startswith(f"{key}={value}"), told
    assert differences(of("trainer.precision=bf16-mixed"), of()) == ["trainer.precision=bf16-mixed (not 32-true)"]


def test_a_recipe_is_its_switches() -> None:
    assert differences(of("recipe=clean"), of()) == [], "digits take it anyway"
    told = differences(of("recipe=erratum_2022_06"), of())
    assert "recipe.schedule_lag=True (not False)" in told
    assert not any(line.startswith("recipe.name") for line in told)


def test_a_group_that_is_left_out_is_one_difference() -> None:
    assert differences(of("method.finetuning=null"), of()) == ["method.finetuning=None (not set)"]
    assert differences(of(), of("method.finetuning=null")) == ["method.finetuning=set (not None)"]


def test_an_option_that_came_later_is_no_difference() -> None:
    made = {key: value for key, value in of().items() if key != "method.temperature"}
    assert differences(made, of()) == []
    assert differences({**of(), "method.gone": 1}, of()) == ["method.gone=1 (not set)"]


def test_options_of_an_entry_that_came_later_leave_earlier_runs_as_they_were() -> None:
    made = {"data.sets": [{"name": "digits", "flip": False}, {"name": "cifar100", "flip": True}]}
    later = {"data.sets": [{**entry, "augmentation": None} for entry in made["data.sets"]]}
    assert differences(made, later) == []
    (told,) = differences(later, made)
    assert told.startswith("data.sets=")
    other = {"data.sets": [later["data.sets"][0], {**later["data.sets"][1], "flip": False}]}
    assert len(differences(made, other)) == 1
    assert len(differences(made, {"data.sets": later["data.sets"][:1]})) == 1
    assert len(differences({"data.order": [1, 2]}, {"data.order": [2, 1]})) == 1


METHODS = ("dytox_plusplus", "daformer_s", "meat", "wa", "der", "icarl")
MAY_DIFFER = {
    "early_stopping.allow_unfinished_schedule",
    "run_dir", "if_exists", "verbose", "evaluate_phases", "extends", "method.encoder", "method.origin", "method.recipe",
    "recipe.name", "recipe.date", "recipe.replicas", "recipe.precision", "batch.evaluation", "data.root",
    "data.on_broken", "data.files", "data.evaluate_on", "data.test_split", "data.max_pixels", "method.backbone_file",
    "model.weights_file",
}  # fmt: skip
"""Single keys that change no number of a run that goes on, or are known by what they led to."""


def leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def edited(plain: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    changed = copy.deepcopy(plain)
    node, *names = changed, *key.split(".")
    for name in names[:-1]:
        node = node[name]
    node[names[-1]] = value
    return changed


@pytest.mark.parametrize("method", METHODS)
def test_a_state_goes_with_one_configuration_alone(method: str) -> None:
    """Whatever is edited in ``config.yaml`` is noticed, but for what is listed here."""
    plain = dataclasses.asdict(compose_typed(["run_dir=unused", f"method={method}"]))
    kept = checkpoint_settings(plain)
    refuse_edits(kept, plain, "resume=RUN")
    free = {"logger", "report", "trainer", "data.suggests"}
    unread = {"memory.size", "memory.scope"} if plain["memory"]["budget"] == "none" else set()
    for key, _ in leaves(plain):
        given = edited(plain, key, "edited")
        if key in MAY_DIFFER | unread or any(key.startswith(f"{group}.") for group in free):
            refuse_edits(kept, given, "resume=RUN")
        else:
            with pytest.raises(ValueError, match=rf"resume=RUN was made with {key}=.* \(not edited\), as its config"):
                refuse_edits(kept, given, "resume=RUN")


def test_a_state_of_an_earlier_version_is_completed_before_it_is_compared() -> None:
    plain = dataclasses.asdict(compose_typed(["run_dir=unused"]))
    kept = checkpoint_settings(plain)
    refuse_edits(None, plain, "resume=RUN")
    del kept["data"]["orientation"]  # which was "ignore" before there was a choice
    refuse_edits(kept, plain, "resume=RUN")
    with pytest.raises(ValueError, match="data.orientation=ignore .not apply"):
        refuse_edits(kept, edited(plain, "data.orientation", "apply"), "resume=RUN")


def test_tables_know_files_by_their_names() -> None:
    settings = {"method.backbone_file": "/here/vit.pth", "model.weights_file": None, "data.name": "/here/x"}
    expected = {"method.backbone_file": "vit.pth", "model.weights_file": None, "data.name": "/here/x"}
    assert with_names_of_files(settings) == expected
