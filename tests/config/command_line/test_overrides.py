"""Which options a command line sets: itself, and through the files that it chooses."""

from __future__ import annotations

from typing import Any

import pytest

from cl_lightning.config.command_line.overrides import Assignment, assignments, keys_set, plain_assignments


def read(*overrides: str) -> list[tuple[str, Any]]:
    return [(one.key, one.value) for one in assignments(overrides)]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=3", [("seed", 3)]),
        ("+seed=3", [("seed", 3)]),
        ("method=wa", [("method", "wa")]),
        ("data.flip=true", [("data.flip", True)]),
        ("method.finetuning=null", [("method.finetuning", None)]),
        ("seed=1,2", [("seed", None)]),
        ("lr_scale=interval(1,4)", [("lr_scale", None)]),
        ("~sweep", [("sweep", None)]),
        ("model@other=vit_tiny", [("model", "vit_tiny")]),
        ("method.mixup={alpha: 0.8, smoothing: 0}", [("method.mixup.alpha", 0.8), ("method.mixup.smoothing", 0)]),
        ("method={mixup: {alpha: 1}, name: x}", [("method.mixup.alpha", 1), ("method.name", "x")]),
        ("method.mixup={}", [("method.mixup", {})]),
        ("data.increment=[5,5]", [("data.increment", [5, 5])]),
    ],
)
def test_an_override_is_taken_apart(override: str, expected: list[tuple[str, Any]]) -> None:
    assert read(override) == expected
    assert {one.text for one in assignments([override])} == {override}


def test_entries_of_a_list_are_set_as_a_whole_and_each_option_by_itself() -> None:
    given = [{"name": "digits", "classes": 2}, {"name": "cars"}]
    assert read("data.sets=[{name: digits, classes: 2}, {name: cars}]") == [
        ("data.sets", given),
        ("data.sets.0.name", "digits"),
        ("data.sets.0.classes", 2),
        ("data.sets.1.name", "cars"),
    ]


def test_hydra_s_own_part_is_left_out() -> None:
    assert read("hydra.run.dir=x", "hydra/launcher=joblib", "seed=1") == [("seed", 1)]


def test_without_hydra_s_grammar_a_key_ends_at_the_first_sign() -> None:
    assert plain_assignments(["data.root=a=b,c"]) == [Assignment("data.root", "data.root=a=b,c")]


def test_files_set_options_too_with_those_that_they_start_from() -> None:
    assert keys_set(["debug=smoke"]) == {"debug", "epochs_scale", "balanced_epochs_scale"}
    assert keys_set(["sweep=search", "seed=1"]) >= {"sweep", "seed", "data.validation", "hydra.sweeper.n_trials"}
    several = keys_set(["sweep=[seeds,search]"])
    assert {"data.validation", "hydra.sweeper.params.seed"} <= several
    child = keys_set(["experiment=ablation_none"])
    assert "method.token_expansion" in child
    assert keys_set(["experiment=ablation_whole"]) <= child, "of the file that it starts from"


def test_groups_of_the_configuration_set_no_option_by_being_chosen() -> None:
    assert keys_set(["method=wa", "data=digits"]) == {"method", "data"}


def test_a_file_that_is_not_there_sets_nothing() -> None:
    assert keys_set(["debug=nothing_of_that_name"]) == {"debug"}
