"""What makes numbers mean less than they seem to, and where nothing is said."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from cl_lightning.config.schema.added_task import ExtendsConfig
from cl_lightning.data.scenarios.scenario import Scenario, split_scenario
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.run.caveats import caveats
from tests.config.made import filled


def scenario(sizes: list[int], each: int = 100, test: int = 30) -> Scenario:
    """``each`` training and ``test`` test images of every class."""
    number = sum(sizes)

    def source(count: int) -> ArraySource:
        labels = torch.arange(number).repeat_interleave(count)
        pixels = torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8)
        return ArraySource("made", pixels, labels, tuple(map(str, range(number))))

    order = range(number)
    return split_scenario("made", source(each), source(test), order=order, increment=sizes, image_size=8)


def told(*overrides: str, sizes: list[int], each: int = 100, test: int = 30) -> list[str]:
    return caveats(filled(*overrides), scenario(sizes, each, test))


def test_nothing_is_reported_of_an_ordinary_run() -> None:
    assert told(sizes=[2, 2, 2]) == []
    assert told("method=meat", sizes=[2, 2, 2]) == []


def test_pruned_extractors_are_no_published_code() -> None:
    der = ("method=der", "model=resnet8", "epochs_scale=1")
    assert told(*der, sizes=[2, 2, 2]) == []
    (masks,) = told(*der, "method.pruning.rule=masks", sizes=[2, 2, 2])
    assert "calibrate_pruning.py" in masks
    (scales,) = told(*der, "method.pruning.rule=scales", sizes=[2, 2, 2])
    assert "Simple-DER's abstract, from which the paper's method cannot be rebuilt" in scales


@pytest.mark.parametrize(
    ("overrides", "each", "share", "smaller"),
    [
        (["memory.size=400"], 100, "all of the 400", "60"),
        (["memory.size=399"], 100, "396 of the 400", "60"),
        (["memory.size=360"], 100, "360 of the 400", "60"),
        (["memory.size=359"], 100, None, ""),
        (["memory=per_class", "memory.size=100"], 100, "all of the 400", "10"),
        (["memory=per_class", "memory.size=50"], 100, None, ""),
        (["memory.size=2000"], 5, "all of the 20", "6"),
        (["memory.size=2000", "memory.scope=per_replica", "batch.replicas=2"], 5, "all of the 20", "12"),
        (["memory=none"], 5, None, ""),
        (["method=joint"], 5, None, ""),
    ],
)
def test_a_memory_that_holds_what_there_is_to_forget(
    overrides: list[str], each: int, share: str | None, smaller: str
) -> None:
    lines = told(*overrides, sizes=[2, 2, 2], each=each)
    assert len(lines) == (share is not None)
    if share is not None:
        assert f" keeps {share} training images of earlier tasks: this is close to joint training; " in lines[0]
        assert f"type memory.size={smaller}, for example, or memory=none" in lines[0]


OWN = ["data=image_folder", "data.root=/nowhere", "data.increment=2"]


def test_own_pictures_are_kept_for_use() -> None:
    (line,) = told(*OWN, "memory.size=2000", sizes=[2, 2, 2])
    assert line == (
        "memory.size=2000 keeps all of the 400 training images of earlier tasks: good for use, no test of continual "
        "learning; for one type memory.size=60, for example"
    )


def test_own_pictures_may_come_all_at_once() -> None:
    (line,) = told(*OWN, sizes=[4])
    assert line.startswith("all classes are learnt at once, as by any classifier; to add more later, type learn=")
    assert told(*OWN, "method=joint", sizes=[4]) == []


@pytest.mark.parametrize("data", [[], OWN])
def test_what_reports_forgetting_is_not_said_to_forget_nothing(data: list[str]) -> None:
    assert "forget" not in " ".join(told(*data, "memory.size=2000", sizes=[2, 2]))


def test_what_a_task_of_learn_finds_in_the_memory_is_not_judged() -> None:
    config = filled("memory.size=2000")
    added = dataclasses.replace(config, extends=ExtendsConfig(run="run", folders=[]))
    assert len(caveats(config, scenario([2, 2], 5))) == 1
    assert caveats(added, scenario([2, 2], 5)) == []


def test_the_only_class_of_a_task_is_known_once_the_task_is() -> None:
    (line,) = told(sizes=[1, 1, 1, 1])
    assert line.startswith("each task has a single class, so that task-incremental accuracy is 100 %")
    assert line.endswith("type data.increment=2 or more")
    assert told(sizes=[2, 1, 2])[0].startswith("task 2 has a single class")
    assert told(sizes=[2, 1, 1])[0].startswith("2 tasks have a single class")


def test_a_single_task_is_joint_training() -> None:
    (line,) = told("memory.size=20", sizes=[4])
    assert line.startswith("all classes come in a single task: this is joint training")
    assert told("method=joint", sizes=[4]) == []


def test_few_images_to_evaluate_on() -> None:
    assert told(sizes=[2, 2], each=200, test=11) == []
    (line,) = told(sizes=[2, 2], each=200, test=4)
    assert line == "task 1 is evaluated on 8 images, each of which is 12.5 points of its accuracy: add images"
    folder = ["data=image_folder", "data.root=/nowhere", "data.increment=2", "memory.size=20"]
    assert "type a larger data.test_share than 0.2, or add images" in told(*folder, sizes=[2, 2], test=4)[0]


def test_an_epoch_is_all_that_is_left() -> None:
    (line,) = told("epochs_scale=0.001", "balanced_epochs_scale=0.001", sizes=[2, 2], each=200)
    assert line == (
        "a single epoch is left of main (of 500), finetuning (of 20): its numbers mean little, type a larger "
        "epochs_scale and balanced_epochs_scale"
    )
    (line,) = told("epochs_scale=0.001", "balanced_epochs_scale=0.5", sizes=[2, 2], each=200)
    assert line == (
        "a single epoch is left of main (of 500): its numbers mean little, type a larger epochs_scale; finetuning has "
        "10 of 20 epochs by balanced_epochs_scale"
    )
    (line,) = told("epochs_scale=0.001", "method=finetune", "memory=none", sizes=[2, 2], each=200)
    assert line.endswith("type a larger epochs_scale"), "it has no other phase"
    assert told("method.main.epochs=1", sizes=[2, 2], each=200) == [], "who types one wants one"


def test_few_images_to_decide_when_to_stop() -> None:
    stops = filled("early_stopping.patience=3", "data.validation=0.1", "method.main.schedule=constant")
    made = scenario([2, 2], each=200)
    aside = dataclasses.replace(made, validation=made.train, validation_labels=torch.full_like(made.train_labels, -1))
    assert aside.validation_labels is not None
    aside.validation_labels[::20] = made.train_labels[::20]
    (line,) = caveats(stops, aside)
    assert line.startswith("early stopping judges task 1 by 20 images, mostly by chance: type a larger data.validation")
    aside.validation_labels[::10] = made.train_labels[::10]
    assert caveats(stops, aside) == []
