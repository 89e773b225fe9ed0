"""What a file lacks has the value that held before its key came."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cl_lightning.config.origin import origin_of
from cl_lightning.config.schema import RecipeConfig
from cl_lightning.config.yaml_files import load_option, options
from cl_lightning.core import missing_keys
from cl_lightning.core.missing_keys import (
    CONFIGURATION,
    Missing,
    complete,
    complete_checkpoint,
    complete_configuration,
    complete_export,
    complete_protocol,
    complete_results,
)
from tests.config.made import filled


def test_what_is_there_stays_and_what_is_missing_is_added() -> None:
    plain = {"data": {"size": 8, "flip": None}, "seed": 1}
    table = (Missing("data.size", 32), Missing("data.flip", True), Missing("data.root", "data"), Missing("verbose", 1))
    assert complete(plain, table) == {"data": {"size": 8, "flip": None, "root": "data"}, "seed": 1, "verbose": 1}
    assert plain == {"data": {"size": 8, "flip": None}, "seed": 1}, "what was given is as it was"


def test_null_may_have_a_meaning_where_a_missing_key_has_none() -> None:
    table = (Missing("recipe.lag", False, null=True),)
    assert complete({"recipe": {"lag": None}}, table) == {"recipe": {"lag": False}}
    assert complete({"recipe": {"lag": True}}, table) == {"recipe": {"lag": True}}
    assert complete({"recipe": {}}, table) == {"recipe": {}}


def test_what_null_stood_for_is_what_it_stands_for_on_a_command_line() -> None:
    """A run that was made with it, and one that is made so now, are one."""
    were_null = {missing.key for missing in CONFIGURATION if missing.null}
    fields = [field.name for field in dataclasses.fields(RecipeConfig) if field.name not in ("name", "date")]
    names = [name for name in fields if f"recipe.{name}" in were_null]  # later ones were never null in a file
    saved = complete_configuration({"recipe": dict.fromkeys(names)})["recipe"]
    made = dataclasses.asdict(filled("recipe=clean", *(f"recipe.{name}=null" for name in names)).recipe)
    assert {name: saved[name] for name in names} == {name: made[name] for name in names}


def test_nothing_is_added_to_a_group_that_is_missing_or_null() -> None:
    table = (Missing("method.mixup.alpha", 0.8), Missing("report.page", True))
    assert complete({"method": {"mixup": None}}, table) == {"method": {"mixup": None}}
    assert complete({"method": {"mixup": {}}}, table) == {"method": {"mixup": {"alpha": 0.8}}}


def test_a_group_that_came_whole_can_be_added_to_later() -> None:
    table = (Missing("report", {"page": True}), Missing("report.size", 3))
    assert complete({}, table) == {"report": {"page": True, "size": 3}}
    assert complete({"report": {"page": False}}, table) == {"report": {"page": False, "size": 3}}
    assert table[0].value == {"page": True}


def test_costs_that_were_not_measured_are_null() -> None:
    (record,) = complete_checkpoint({"records": [{"index": 0, "peak_memory": 5}]})["records"]
    assert record == {"index": 0, "multiply_adds": None, "peak_memory": 5, "peak_gpu_memory": None}
    found = complete_results({"protocol": {}, "provenance": {}})
    assert (found["costs"], found["provenance"]["disk"], found["provenance"]["peak_memory"]) == (None, None, None)


def test_every_entry_of_a_list_is_completed() -> None:
    table = (Missing("data.sets", []), Missing("data.sets.*.flip", False))
    assert complete({"data": {}}, table) == {"data": {"sets": []}}
    sets = [{"name": "a"}, {"name": "b", "flip": True}]
    assert complete({"data": {"sets": sets}}, table)["data"]["sets"] == [{"name": "a", "flip": False}, sets[1]]
    assert sets[0] == {"name": "a"}


def test_a_key_may_be_of_some_methods_only() -> None:
    table = (Missing("method.clip", True, only=("wa", "icarl")),)
    assert complete({"method": {"name": "wa"}}, table) == {"method": {"name": "wa", "clip": True}}
    assert complete({"method": {"name": "der"}}, table) == {"method": {"name": "der"}}


def test_a_key_may_be_of_groups_that_have_another_one() -> None:
    """A phase of a method is known by its epochs, whatever it is called."""
    table = (Missing("method.*.scale", None, beside="epochs"),)
    method = {"name": "bic", "temperature": 2.0, "main": {"epochs": 3}, "bias": {"epochs": 2, "scale": 0.5},
              "mixup": {"alpha": 0.8}, "tuning": None}  # fmt: skip
    found = complete({"method": method}, table)["method"]
    assert found == method | {"main": {"epochs": 3, "scale": None}}
    assert method["main"] == {"epochs": 3}, "what was given is as it was"


def test_a_protocol_has_options_and_switches_as_a_configuration_has(monkeypatch: pytest.MonkeyPatch) -> None:
    table = (
        Missing("method.clip", True, only=("wa",)),
        Missing("recipe.lag", False),
        Missing("data.orientation", "ignore"),
    )
    monkeypatch.setattr(missing_keys, "CONFIGURATION", table)
    made = {"method": "wa", "method_options": {"temperature": 2}, "recipe": "clean", "recipe_switches": {"herd": True}}
    expected = made | {
        "method_options": {"temperature": 2, "clip": True},
        "recipe_switches": {"herd": True, "lag": False},
        "balance": "none",
        "early_stopping": "none",
        "preprocess": "usual",
        "origin": "published recipe",
    }
    assert complete_protocol(made) == expected
    assert complete_results({"protocol": made, "provenance": {}})["protocol"] == expected
    assert complete_checkpoint({"identity": {"protocol": made, "order": [1]}})["identity"]["protocol"] == expected
    assert complete_export({"protocol": made})["protocol"] == expected | {"evaluation": "class_incremental"}
    without: dict[str, Any] = {"method": "wa"}
    assert complete_protocol(without) == without | {
        "method_options": {},
        "recipe_switches": {},
        "balance": "none",
        "early_stopping": "none",
        "preprocess": "usual",
        "origin": "published recipe",
    }


SINCE = ("auto", "timm_backbone", "path_net", "path_net_tiny", "alexnet", "alexnet_tiny")
"""Models that no run without a label has."""
OF_EARLIER_VERSIONS = [method for missing in CONFIGURATION if missing.key == "method.origin" for method in missing.only]


def test_a_configuration_without_a_label_has_that_of_its_method() -> None:
    assert len(OF_EARLIER_VERSIONS) == len(set(OF_EARLIER_VERSIONS)) == 17
    for method in OF_EARLIER_VERSIONS:
        label = load_option("method", method)["origin"]
        made = complete_configuration({"method": {"name": method}})["method"]
        assert (made["name"], made["origin"]) == (method, label)


@pytest.mark.parametrize("model", [name for name in options("model") if name not in SINCE])
def test_a_protocol_without_a_label_has_the_one_that_its_configuration_leads_to(model: str) -> None:
    for method in OF_EARLIER_VERSIONS:
        config = filled(f"method={method}", f"model={model}")
        made = {"method": method, "model": config.model.name}
        assert complete_protocol(made)["origin"] == origin_of(config), method


def test_where_no_model_is_told_it_is_the_methods() -> None:
    assert complete_protocol({"method": "icarl"})["origin"] == "published recipe"


def test_a_label_stays_and_a_method_of_ones_own_has_none() -> None:
    assert complete_protocol({"method": "dytox", "origin": "adaptation"})["origin"] == "adaptation"
    assert complete_protocol({"method": "mine"})["origin"] is None
    assert "origin" not in complete_configuration({"method": {"name": "mine"}})["method"]


def test_what_a_checkpoint_did_not_know_is_nothing() -> None:
    weights = object()
    known = complete_checkpoint({"network": weights})
    lists = {"phases": [], "commits": [], "after_phases": []}
    assert known == {"network": weights, "answers": None, "class_counts": {}, **lists}
    assert known["network"] is weights, "tensors are not copied"
