"""A scenario of several data sets: tasks, labels and names by hand, validation, and what may be mirrored."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from cl_lightning.data.scenarios.multi_dataset import DatasetTasks, concat_scenarios, of_classes
from cl_lightning.data.sources.base import ArraySource

SIZE = 4


def table(name: str, labels: list[int], *class_names: str) -> ArraySource:
    pixels = torch.arange(len(labels) * 3 * SIZE * SIZE).to(torch.uint8).view(-1, 3, SIZE, SIZE)
    return ArraySource(name, pixels, torch.tensor(labels), class_names)


SHAPES = DatasetTasks(
    "shapes", table("shapes/train", [1, 0, 1, 0], "disc", "ring"), table("shapes/test", [0, 1], "disc", "ring"), (2,)
)
FRUIT_NAMES = ("apple", "fig", "pear")
FRUIT = DatasetTasks(
    "fruit",
    table("fruit/train", [2, 2, 0, 1, 0, 1], *FRUIT_NAMES),
    table("fruit/test", [0, 1, 2], *FRUIT_NAMES),
    (1, 2),
)


def test_the_tasks_of_one_set_follow_those_of_another() -> None:
    scenario = concat_scenarios("sequence", [SHAPES, FRUIT], image_size=SIZE)
    assert [task.classes for task in scenario.tasks] == [(0, 1), (2,), (3, 4)]
    assert [task.names for task in scenario.tasks] == [
        ("shapes/disc", "shapes/ring"), ("fruit/apple",), ("fruit/fig", "fruit/pear")
    ]  # fmt: skip
    assert [sorted(task.train.tolist()) for task in scenario.tasks] == [[0, 1, 2, 3], [6, 8], [4, 5, 7, 9]]
    assert [sorted(task.test.tolist()) for task in scenario.tasks] == [[0, 1], [2], [3, 4]]
    assert scenario.train_labels.tolist() == [1, 0, 1, 0, 4, 4, 2, 3, 2, 3]
    assert scenario.test_labels.tolist() == [0, 1, 2, 3, 4]
    assert scenario.train.key(4) == "2/0"
    assert (scenario.image_size, scenario.channels, scenario.evaluates_on) == (SIZE, 3, "test")
    assert scenario.class_names[4] == "fruit/pear"


def test_each_class_knows_its_set() -> None:
    assert concat_scenarios("sequence", [SHAPES, FRUIT], image_size=SIZE).set_of_class == (0, 0, 1, 1, 1)
    assert concat_scenarios("sequence", [FRUIT, SHAPES], image_size=SIZE).set_of_class == (0, 0, 0, 1, 1)


def test_a_validation_share_is_taken_of_each_class_of_each_set() -> None:
    links = [dataclasses.replace(link, test=None) for link in (SHAPES, FRUIT)]
    scenario = concat_scenarios("sequence", links, image_size=SIZE, validation=0.5)
    assert scenario.evaluates_on == "validation"
    assert scenario.test is scenario.train
    for label in range(5):
        assert [int((rows == label).sum()) for rows in (scenario.train_labels, scenario.test_labels)] == [1, 1]
    with pytest.raises(ValueError, match=r"pass validation=0\.1"):
        concat_scenarios("sequence", links, image_size=SIZE)


def test_a_class_cannot_come_twice() -> None:
    other = DatasetTasks("fruit", table("fruit/train", [0], "fig"), table("fruit/test", [0], "fig"), (1,))
    with pytest.raises(ValueError, match=r"class fig of fruit in entries 1 and 3: leave it out of one"):
        concat_scenarios("sequence", [FRUIT, SHAPES, other], image_size=SIZE)
    concat_scenarios("sequence", [FRUIT, dataclasses.replace(other, name="dried fruit")], image_size=SIZE)


def test_classes_are_chosen_and_numbered_anew() -> None:
    chosen = of_classes(FRUIT.train, (2, 0))
    assert isinstance(chosen, ArraySource)
    assert chosen.class_names == ("pear", "apple")
    assert chosen.labels.tolist() == [0, 0, 1, 1]
    assert [chosen.key(row) for row in range(4)] == [0, 1, 2, 4], "an image is called what it was called"
    everything = of_classes(FRUIT.train, (2, 0, 1))
    assert everything.labels.tolist() == [0, 0, 1, 2, 1, 2]
    assert isinstance(everything, ArraySource)
    assert everything.pixels is FRUIT.train.pixels, "nothing is copied where nothing is left out"  # type: ignore[union-attr]


def test_the_same_set_may_come_twice_with_other_classes() -> None:
    halves = [
        DatasetTasks("fruit", of_classes(FRUIT.train, order), of_classes(FRUIT.test, order), (len(order),))  # type: ignore[arg-type]
        for order in ((1,), (2, 0))
    ]
    scenario = concat_scenarios("sequence", halves, image_size=SIZE)
    assert scenario.class_names == ("fruit/fig", "fruit/pear", "fruit/apple")
    assert [scenario.train.key(row) for row in scenario.class_rows(2).tolist()] == ["2/2", "2/4"]
