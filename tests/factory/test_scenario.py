"""From the configuration to tasks: which classes come when, of one data set and of several; how they are read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_lightning.config.schema import DataConfig, SetConfig
from cl_lightning.config.schema.added_task import ExtendsConfig, LearntFolderConfig
from cl_lightning.core.errors import UserError
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.factory import scenario as factory
from cl_lightning.factory.scenario import all_at_hand, dataset_scenario, only_arrays, orientation
from tests.config.made import filled

SIZE = 8
NAMES = ("ant", "bee", "cow", "dog")


def table(name: str, channels: int = 1) -> ArraySource:
    """Two images of each of four classes."""
    labels = torch.arange(4).repeat(2)
    return ArraySource(name, torch.zeros(8, channels, SIZE, SIZE, dtype=torch.uint8), labels, NAMES)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, dict[str, Any]]]:
    """Every data set is a small table; and how it was asked for."""
    calls: list[tuple[str, Any, dict[str, Any]]] = []

    def load(name: str, root: Any, *, with_test: bool, **options: Any) -> tuple[ArraySource, ArraySource | None]:
        calls.append((name, root, {"with_test": with_test, **options}))
        return table(f"{name}/train"), table(f"{name}/test") if with_test else None

    monkeypatch.setattr(factory, "load_sources", load)
    return calls


def digits(**changed: Any) -> DataConfig:
    return dataclasses.replace(filled("data.increment=2").data, **changed)


def sequence(*sets: SetConfig, **changed: Any) -> DataConfig:
    return dataclasses.replace(filled("data=sequence").data, sets=list(sets), root="ROOT", **changed)


# ---- one data set ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({}, [("ant", "bee"), ("cow", "dog")]),
        ({"initial": 3, "increment": 1}, [("ant", "bee", "cow"), ("dog",)]),
        ({"increment": [1, 3]}, [("ant",), ("bee", "cow", "dog")]),
        ({"order": [3, 1, 0, 2]}, [("dog", "bee"), ("ant", "cow")]),
        ({"order": ["cow", "ant", "dog", "bee"]}, [("cow", "ant"), ("dog", "bee")]),
        ({"order": [3, 1, 0, 2], "classes": 3, "increment": 1}, [("dog",), ("bee",), ("ant",)]),
    ],
    ids=["increment", "initial", "sizes", "order", "names", "classes"],
)
def test_classes_come_as_the_options_say(
    asked: list[Any], changed: dict[str, Any], names: list[tuple[str, ...]]
) -> None:
    made = dataset_scenario(digits(**changed))
    assert [task.names for task in made.tasks] == names
    assert len(asked) == 1


def test_how_files_are_read_is_passed_on(asked: list[Any]) -> None:
    data = digits(
        root="here", test_share=0.4, test_split="per_class", files="by_suffix", on_broken="skip", orientation="apply",
        evaluate_on="val", max_pixels=77,
    )  # fmt: skip
    dataset_scenario(data)
    assert asked == [
        (
            "digits", "here",
            {
                "with_test": True, "evaluate_on": "val", "test_share": 0.4, "test_split": "per_class",
                "files": "by_suffix", "on_broken": "skip", "orientation": "apply", "max_pixels": 77,
            },
        )
    ]  # fmt: skip


def test_test_images_are_not_even_read_where_a_share_is_held_out(asked: list[Any]) -> None:
    made = dataset_scenario(digits(validation=0.5))
    assert asked[0][2]["with_test"] is False
    assert made.evaluates_on == "validation"
    assert [len(task.train) for task in made.tasks] == [2, 2]
    assert [len(task.test) for task in made.tasks] == [2, 2]


def test_test_images_are_read_beside_a_share_that_decides_when_to_stop(asked: list[Any]) -> None:
    made = dataset_scenario(digits(validation=0.5), evaluate_share=False)
    assert asked[0][2]["with_test"] is True
    assert made.evaluates_on == "test"
    assert [len(made.validation_rows(task.classes)) for task in made.tasks] == [2, 2]
    assert [len(task.test) for task in made.tasks] == [4, 4]


def test_evaluate_on_val_means_the_share_where_there_is_one(asked: list[Any]) -> None:
    """No folder of that name is looked for."""
    dataset_scenario(digits(validation=0.5, evaluate_on="val"))
    assert (asked[0][2]["with_test"], asked[0][2]["evaluate_on"]) == (False, "auto")


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"classes": 5}, "data.classes=5 is not among the 4 classes of digits: type data.classes=1 to 4, or data.cla"),
        ({"classes": 0}, "data.classes=0 is not among the 4 classes of digits"),
        ({"increment": 3}, "data.increment=3 "),
        ({"order": "7"}, "data.order=7 is no class order of digits"),
        ({"image_size": 32}, "data.image_size=32, but digits has 8 x 8 pixels: type data.image_size=8"),
    ],
    ids=["classes", "none", "increment", "order", "image_size"],
)
def test_what_cannot_be_is_one_line_on_what_to_type(asked: list[Any], changed: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as refused:
        dataset_scenario(digits(**changed))
    assert str(refused.value).startswith(line)


# ---- several -----------------------------------------------------------------------------------------------------


def test_an_entry_brings_its_classes_at_once_or_in_tasks_of_its_own(asked: list[Any]) -> None:
    made = dataset_scenario(
        sequence(
            SetConfig("digits", classes=3, order="identity"),
            SetConfig("cars", select=["dog", "ant"], increment=1),
            image_size=SIZE,
        )
    )
    assert [task.names for task in made.tasks] == [
        ("digits/ant", "digits/bee", "digits/cow"), ("cars/dog",), ("cars/ant",),
    ]  # fmt: skip
    assert made.set_of_class == (0, 0, 0, 1, 1)


def test_a_set_in_several_entries_is_read_once(asked: list[Any]) -> None:
    two = [SetConfig("digits", select=["ant"]), SetConfig("digits", select=["bee"])]
    assert [task.names for task in dataset_scenario(sequence(*two)).tasks] == [("digits/ant",), ("digits/bee",)]
    assert len(asked) == 1


def test_sets_with_a_folder_of_their_own_share_the_root(asked: list[Any]) -> None:
    dataset_scenario(sequence(SetConfig("cars"), SetConfig("aircraft", root="other"), SetConfig("image_folder")))
    assert [(name, root) for name, root, _ in asked] == [
        ("cars", "ROOT"),
        ("aircraft", "other"),
        ("image_folder", None),
    ]


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (SetConfig("cars", select=["doge"]), "data.sets, entry 2 (cars): select has doge, no class of it (did you mea"),
        (SetConfig("cars", select=["ant", "ant"]), "data.sets, entry 2 (cars): select has ant more than once: name e"),
        (SetConfig("cars", select=[]), "data.sets, entry 2 (cars): select: [] names no class: type select: [ant, ..."),
        (SetConfig("cars", classes=9), "data.sets, entry 2 (cars): classes: 9 is not among the 4 classes of cars"),
        (SetConfig("cars", increment=3), "data.sets, entry 2 (cars): increment: 3 "),
    ],
    ids=["unknown", "twice", "empty", "classes", "increment"],
)
def test_what_an_entry_cannot_be_says_which_entry(asked: list[Any], entry: SetConfig, line: str) -> None:
    with pytest.raises(UserError) as refused:
        dataset_scenario(sequence(SetConfig("digits"), entry))
    assert str(refused.value).startswith(line)


# ---- about data that are not read --------------------------------------------------------------------------------


def test_pictures_from_elsewhere_are_seen_whole_where_all_images_are_arrays() -> None:
    assert only_arrays(digits())
    assert only_arrays(filled("data=cifar100_10steps").data)
    assert not only_arrays(filled("data=imagenet100_10steps").data)
    assert only_arrays(sequence(SetConfig("digits"), SetConfig("cifar100")))
    assert not only_arrays(sequence(SetConfig("digits"), SetConfig("cars")))


def test_the_orientation_of_pictures_from_elsewhere() -> None:
    config = filled("data=image_folder", "data.root=x", "data.increment=1", "data.orientation=apply")
    assert orientation(config) == "apply"
    assert orientation(filled()) == "ignore"
    data = sequence(SetConfig("digits", orientation="ignore"), SetConfig("cars", orientation="apply"))
    assert orientation(dataclasses.replace(config, data=data)) == "apply"
    data = dataclasses.replace(data, sets=data.sets[:1])
    assert orientation(dataclasses.replace(config, data=data)) == "ignore"


def test_the_orientation_of_the_folder_that_was_learnt_last_counts() -> None:
    folders = [
        LearntFolderConfig(
            name=kind, folder=kind, evaluate_on="auto", test_share=0.2, test_split="per_class", files="any",
            on_broken="error", orientation=kind, allow_similar=False, changed=[],
        )
        for kind in ("apply", "ignore")
    ]  # fmt: skip
    config = dataclasses.replace(filled(), extends=ExtendsConfig(run="run", folders=folders))
    assert orientation(config) == "ignore"
    config = dataclasses.replace(filled(), extends=ExtendsConfig(run="run", folders=folders[:1]))
    assert orientation(config) == "apply"


def test_data_are_at_hand_where_their_folders_are(tmp_path: Path) -> None:
    cifar = dataclasses.replace(filled("data=cifar100_10steps").data, root=str(tmp_path))
    assert not all_at_hand(cifar)
    (tmp_path / "cifar-100-python").mkdir()
    assert all_at_hand(cifar)
    both = dataclasses.replace(sequence(SetConfig("cifar100"), SetConfig("digits")), root=str(tmp_path))
    assert all_at_hand(both)
    assert not all_at_hand(dataclasses.replace(both, sets=[*both.sets, SetConfig("cars")]))
