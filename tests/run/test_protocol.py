"""The protocol of a run: what a number must never be printed without, and what makes another run."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from cl_lightning.config.schema import Config, SetConfig
from cl_lightning.config.schema.added_task import ExtendsConfig, LearntFolderConfig
from cl_lightning.data.scenarios.scenario import Scenario, without_images
from cl_lightning.run.protocol import comparable, epochs, lr_scale, memory_name, method_options, protocol
from tests.config.made import filled


def scenario(**changed: Any) -> Scenario:
    made = without_images("toy", list("abcde"), (2, 2, 1), 8, 1)
    return dataclasses.replace(made, **changed)


def told(config: Config, **changed: Any) -> dict[str, Any]:
    return protocol(config, scenario(**changed))


def test_all_that_a_number_depends_on() -> None:
    found = told(filled("method=wa", "seed=3", "data.order=seed:1", "batch.replicas=2", "memory.size=50"))
    assert found.pop("method_options")["temperature"] == 2.0
    assert found.pop("recipe_switches")["finetuning_order"] == "shuffled"
    assert found == {
        "method": "wa", "origin": "published recipe", "data": "digits", "classes": 5, "tasks": [2, 2, 1],
        "order": "seed:1", "evaluates_on": "test",
        "model": "resnet8", "memory": "50 in total", "memory_scope": "global", "recipe": "clean",
        "recipe_changes": "none", "replicas": 2, "batch": 32, "precision": "32-true", "epochs": "14 main",
        "lr_scale": 1.0, "augmentation": "basic", "preprocess": "usual", "balance": "none", "early_stopping": "none",
        "seed": 3,
    }  # fmt: skip


def test_cutout_stands_beside_the_augmentation_that_it_follows() -> None:
    assert told(filled("data.cutout=4"))["augmentation"] == "basic, cutout 4"
    assert told(filled("method=dkt", "data=cifar100_10steps", "data.augmentation=none"))["augmentation"] == "none"


def test_switches_of_a_recipe_that_were_changed_are_named() -> None:
    found = told(filled("recipe.herd_augmented=true", "recipe.schedule_lag=true"))
    assert found["recipe_changes"] == "schedule_lag=True, herd_augmented=True"
    assert not {"name", "date", "replicas", "precision"} & set(found["recipe_switches"])


def test_a_folder_that_is_evaluated_on_is_named_where_there_is_one() -> None:
    assert told(filled(), evaluation_folder="val", evaluates_on="validation")["evaluation_folder"] == "val"
    assert "evaluation_folder" not in told(filled())


def test_an_order_that_is_a_list_is_one() -> None:
    assert told(filled("data.order=[1,0,2]"))["order"] == [1, 0, 2]


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        (["method=dytox"], "40 main + 20 finetuning"),
        (["method=dytox", "memory=none"], "40 main"),
        (["method=dytox", "method.finetuning=null"], "40 main"),
        (["method=dytox", "epochs_scale=1", "balanced_epochs_scale=0.5"], "500 main + 10 finetuning"),
        (["method=dytox", "epochs_scale=0.0001"], "1 main + 20 finetuning"),
        (["method=dytox", "method.main.epochs=7"], "7 main + 20 finetuning"),
        (["method=der", "epochs_scale=0.1"], "17 main + 30 classifier"),
        (["method=meat", "epochs_scale=0.1"], "50 backbone + 3 main"),
        (["method=meat", "epochs_scale=0.1", "method.backbone_file=x.pth"], "3 main"),
        (["method=ranpac", "epochs_scale=0.1"], "20 backbone"),
        (["method=ranpac", "model=vit_tiny", "method.backbone_file=x.pth"], "none"),
    ],
)
def test_epochs_of_the_phases_that_are_trained(overrides: list[str], text: str) -> None:
    assert epochs(filled(*overrides)) == text


@pytest.mark.parametrize(
    ("overrides", "scale"),
    [
        (["method=dytox"], 4.0),
        (["method=dytox", "lr_scale=2"], 2.0),
        (["method=dytox", "method.main.lr=0.1"], "main 1, finetuning 4"),
        (["method=dytox", "method.main.lr=0.1", "memory=none"], 1.0),
        (["method=der", "method.classifier.lr_scale=0.5"], "main 1, classifier 0.5"),
    ],
)
def test_what_rates_are_times(overrides: list[str], scale: float | str) -> None:
    assert lr_scale(filled(*overrides)) == scale


@pytest.mark.parametrize(
    ("memory", "words"), [("total", "200 in total"), ("per_class", "10 per class"), ("none", "none")]
)
def test_a_memory_in_words(memory: str, words: str) -> None:
    assert memory_name(filled(f"memory={memory}")) == words


def test_a_phase_without_scales_of_its_own_says_nothing_of_them() -> None:
    """As in runs from before there were any, which must still be the same runs."""
    plain = method_options(filled("method=dytox").method)
    assert "name" not in plain
    assert not {"epochs_scale", "lr_scale"} & set(plain["main"])
    typed = method_options(filled("method=dytox", "method.main.epochs=7").method)
    assert typed["main"]["epochs_scale"] == 1.0
    assert "lr_scale" not in typed["main"]


def test_several_sets_in_words() -> None:
    config = filled("data=sequence")
    sets = [
        SetConfig("digits", classes=4, increment=2, flip=False, order=[3, 1], augmentation="none"),
        SetConfig("cars", flip=True, crop_padding=0, order="seed:1"),
        SetConfig("cifar100", select=["apple", "bee"], flip=True, increment=[1, 1]),
    ]
    found = told(dataclasses.replace(config, data=dataclasses.replace(config.data, sets=sets)))
    assert found["order"] == "[3,1], seed:1, as selected"
    assert found["sets"] == [
        "digits (classes 4, increment 2, mirrored no, augmentation none)",
        "cars (classes all, increment all, mirrored yes, padding 0)",
        "cifar100 (classes 2, increment [1,1], mirrored yes)",
    ]


def test_tasks_that_were_added_say_where_they_come_from_and_what_was_changed() -> None:
    def folder(name: str, *changed: str) -> LearntFolderConfig:
        return LearntFolderConfig(
            name=name, folder=f"/there/{name}", evaluate_on="auto", test_share=0.2, test_split="per_class",
            files="any", on_broken="error", orientation="ignore", allow_similar=False, changed=list(changed),
        )  # fmt: skip

    folders = [folder("pets"), folder("farm", "epochs_scale=2 (not 1)", "seed=1 (not 0)")]
    config = dataclasses.replace(filled(), extends=ExtendsConfig(run="before", folders=folders))
    assert told(config, fingerprints=("aa", "bb", "cc"))["extended"] == [
        "task 2: folder pets, fingerprint bb",
        "task 3: folder farm, fingerprint cc, epochs_scale=2 (not 1), seed=1 (not 0)",
    ]


def test_the_path_of_weights_that_are_in_the_checkpoint_makes_no_other_run() -> None:
    """It was kept as it was typed once, and is absolute by now."""

    def protocol(file: str | None, temperature: float = 1.0) -> dict[str, object]:
        return {"method": "meat", "method_options": {"backbone_file": file, "temperature": temperature}}

    assert comparable(protocol("w.pth")) == comparable(protocol("/there/me/w.pth"))
    assert comparable(protocol("w.pth")) != comparable(protocol("w.pth", 2.0))
    assert comparable(["a"]) == ["a"]


def test_a_label_is_told_and_makes_no_other_run() -> None:
    """One that is put right must not stop a run that goes on."""
    found = told(filled("method=icarl", "model=convit_tiny"))
    assert found["origin"] == "adaptation"
    assert "origin" not in found["method_options"]
    assert comparable(found) == comparable({**found, "origin": "published recipe"})
    assert comparable(found) == comparable({key: value for key, value in found.items() if key != "origin"})
