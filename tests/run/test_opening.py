"""The opening of a run: six lines that a newcomer reads, notes where something is unusual, the rest in the log."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cl_lightning.config.schema import Config
from cl_lightning.config.schema.added_task import ExtendsConfig
from cl_lightning.data.scenarios.scenario import Scenario, split_scenario
from cl_lightning.data.sources.base import ArraySource
from cl_lightning.data.sources.skipped_files import LeftOut
from cl_lightning.learning.display import PhaseSpan
from cl_lightning.run.opening import INDENT, Opening, opening, shortened
from tests.config.made import filled

LABELS = ["data", "method", "network", "memory", "training", "files"]


def scenario(sizes: list[int], each: list[int] | None = None) -> Scenario:
    """Tasks of ``sizes`` classes with ``each`` training images (100 by default) and 30 test images of a class."""
    number = sum(sizes)
    names = tuple(f"class{label}" for label in range(number))

    def source(counts: list[int]) -> ArraySource:
        labels = torch.arange(number).repeat_interleave(torch.tensor(counts))
        return ArraySource("made", torch.zeros(len(labels), 1, 8, 8, dtype=torch.uint8), labels, names)

    train, test = source(each or [100] * number), source([30] * number)
    return split_scenario("made", train, test, order=range(number), increment=sizes, image_size=8)


def told(*overrides: str, tasks: Scenario | None = None, **more: Any) -> Opening:
    return opening(filled(*overrides), tasks or scenario([2] * 5), Path.cwd() / "outputs" / "run", **more)


def line(found: Opening, label: str) -> str:
    return found.lines[LABELS.index(label)][INDENT:]


def test_an_ordinary_run_has_six_lines_and_no_note() -> None:
    found = told(spans=[PhaseSpan(0, 1, "main", 50, 6, 9600), PhaseSpan(1, 1, "main", 50, 7, 9600)])
    assert [each.split()[0] for each in found.lines] == LABELS
    assert found.notes == ()
    assert line(found, "data") == "digits: 1,000 training and 300 test images, 10 classes in 5 tasks of 2"
    assert line(found, "method") == "dytox, seed 0"
    assert line(found, "network") == "convit_tiny, 0.13 million parameters in the first task, on the CPU"
    assert line(found, "memory") == "200 training images of all earlier classes together (exemplars)"
    assert line(found, "training").endswith(" epochs (main + finetuning) a task, 650 steps of 32 images")
    assert line(found, "files") == "outputs/run"
    assert max(map(len, found.lines)) <= 80, "they fit an ordinary terminal"


def test_switches_are_for_the_log() -> None:
    found = told()
    assert "herd_augmented=" not in " ".join(found.lines)
    assert "herd_augmented=False" in " ".join(found.details)
    assert any(each.startswith("1000 training images of 10 classes (100 each), 300 test") for each in found.details)


@pytest.mark.parametrize(
    ("overrides", "memory"),
    [
        (["memory=none"], "none: no image of an earlier class is kept"),
        (
            ["method=bic"],
            "200 training images of all earlier classes together (exemplars), 10 % of them held out of training",
        ),
        (["memory=per_class", "memory.size=20"], "20 training images of each earlier class (exemplars)"),
        (["method=meat"], "none: meat keeps no images"),
        (["method=joint"], "none needed: every task trains on all images so far"),
        (
            ["memory.scope=per_replica", "batch.replicas=2"],
            "200 training images of all earlier classes together (exemplars), by each of 2 replicas",
        ),
    ],
)
def test_the_memory_in_words(overrides: list[str], memory: str) -> None:
    assert line(told(*overrides), "memory") == memory


@pytest.mark.parametrize(
    ("sizes", "classes"),
    [
        ([4], "4 classes in a single task"),
        ([1, 1], "2 classes in 2 tasks of 1"),
        ([4, 2, 2], "8 classes in 3 tasks (4, then 2 each)"),
        ([2, 1, 3], "6 classes in 3 tasks (2, 1, 3)"),
        ([1, 2] * 5, "15 classes in 10 tasks (1, 2, 1, 2, 1, 2, 1, 2, ...)"),
    ],
)
def test_how_tasks_bring_classes(sizes: list[int], classes: str) -> None:
    assert line(told(tasks=scenario(sizes)), "data").endswith(f", {classes}")


@pytest.mark.parametrize(
    ("overrides", "training"),
    [
        (["method=icarl", "epochs_scale=1"], "70 epochs a task"),
        (["method=icarl", "method.main.epochs=1"], "1 epoch a task"),
        (["method=dytox", "epochs_scale=1", "balanced_epochs_scale=1"], "500 + 20 epochs (main + finetuning) a task"),
        (["method=dytox", "memory=none", "epochs_scale=1"], "500 epochs a task"),
        (["method=meat", "epochs_scale=1"], "500 epochs in the first task, 30 epochs in each later one"),
        (["method=ranpac", "epochs_scale=1"], "200 epochs in the first task, none in later ones"),
        (
            ["method=simplecil", "model=vit_tiny", "method.backbone_file=F"],
            "none: the network has been trained, and stays as it is",
        ),
    ],
)
def test_how_long_it_trains(overrides: list[str], training: str) -> None:
    assert line(told(*overrides), "training") == training


@pytest.mark.parametrize(
    ("balance", "words"),
    [
        ("loss", "a task, classes weighted by data.balance=loss"),
        ("sampling", "a task, classes drawn evenly by data.balance=sampling"),
    ],
)
def test_a_balance_that_was_set_is_told(balance: str, words: str) -> None:
    assert line(told(f"data.balance={balance}"), "training").endswith(words)


@pytest.mark.parametrize(
    ("overrides", "memory"),
    [
        ([], "none needed: a single task; up to 200 images (exemplars) are kept for learn="),
        (
            ["memory=per_class", "memory.size=20"],
            "none needed: a single task; up to 20 images of each class (exemplars) are kept for learn=",
        ),
        (
            ["method=bic"],
            "none needed: a single task; up to 200 images (exemplars, 10 % of them held out of training) are kept for "
            "learn=",
        ),
        (["memory=none"], "none needed: a single task"),
        (["method=meat"], "none needed: a single task"),
        (["method=joint"], "none needed: a single task"),
    ],
)
def test_a_single_task_needs_no_memory(overrides: list[str], memory: str) -> None:
    assert line(told(*overrides, tasks=scenario([4])), "memory") == memory


@pytest.mark.parametrize(
    ("overrides", "phases", "training"),
    [
        (["method=dytox", "epochs_scale=1"], ["main"], "500 epochs, 500 steps of 32 images"),
        (
            ["method=dytox", "epochs_scale=1", "balanced_epochs_scale=1", "recipe.finetune_joint=true"],
            ["main", "finetuning"],
            "500 + 20 epochs (main + finetuning), 520 steps of 32 images",
        ),
        (["method=meat", "epochs_scale=1"], ["backbone"], "500 epochs, 500 steps of 32 images"),
    ],
)
def test_a_single_task_has_the_phases_that_it_trains(overrides: list[str], phases: list[str], training: str) -> None:
    lengths = {"main": 500, "backbone": 500, "finetuning": 20}
    spans = [PhaseSpan(0, item, name, lengths[name], 1, 32) for item, name in enumerate(phases)]
    found = told(*overrides, "batch.size=32", tasks=scenario([4]), spans=spans)
    assert line(found, "training") == training


@pytest.mark.parametrize(
    ("overrides", "told_of"),
    [
        (["data.preprocess.size=16"], "; preprocessing: 8 -> 16 px, whole, bicubic"),
        (["data.preprocess.normalise=none"], "; preprocessing: pixels in [0, 1]"),
        (["data.preprocess.size=8"], ""),
    ],
)
def test_unusual_preprocessing_is_told_with_the_data(overrides: list[str], told_of: str) -> None:
    expected = f"digits: 1,000 training and 300 test images, 10 classes in 5 tasks of 2{told_of}"
    assert line(told(*overrides), "data") == expected


OWN = ["data=image_folder", "data.root=/nowhere", "data.increment=2", "trainer.accelerator=cpu"]


def sized(side: int, channels: int = 3) -> Scenario:
    """Two tasks of pictures of ``side`` pixels."""
    return dataclasses.replace(scenario([2, 2]), image_size=side, channels=channels)


@pytest.mark.parametrize(
    ("overrides", "side", "options"),
    [
        (OWN, 224, "data.image_size=32 model=convit_tiny model.patch_size=8"),
        ([*OWN, "model=convit_tiny"], 224, "data.image_size=32 model.patch_size=8"),
        ([*OWN, "method=icarl"], 224, "data.image_size=32 model=resnet32"),
        (["data=cifar100", "model=convit_cifar", "trainer.accelerator=cpu"], 32, "model=convit_tiny"),
        (
            ["data=cifar100", "data.preprocess.size=224", "model=resnet32", "method=wa", "trainer.accelerator=cpu"],
            224,
            "data.preprocess.size=32",
        ),
        (["data=cifar100", "model=vit_cifar", "method=meat", "trainer.accelerator=cpu"], 32, "model=vit_tiny"),
    ],
)
def test_a_network_for_a_gpu_is_noted_on_a_cpu(overrides: list[str], side: int, options: str) -> None:
    (note,) = told(*overrides, tasks=sized(side)).notes
    assert f" at {side} pixels is meant for a GPU, and learns slowly on a CPU: " in note
    assert note.endswith(f"use a GPU, or type {options}")


def test_a_small_network_is_none_of_them_nor_one_that_there_is_already(monkeypatch: pytest.MonkeyPatch) -> None:
    small = ["data.image_size=32", "model=convit_tiny", "model.patch_size=8"]
    assert told(*OWN, *small, tasks=sized(32)).notes == ()
    assert told("model=resnet18", "method=icarl", tasks=sized(8, 1)).notes == ()
    (going_on,) = told(*OWN, tasks=sized(224), resumed_at="task 2/2, phase main").notes
    assert "GPU" not in going_on
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert told(*OWN[:-1], tasks=sized(224)).notes == ()


def test_a_single_step_is_one() -> None:
    tiny = told("method=icarl", "method.main.epochs=1", "batch.size=1", spans=[PhaseSpan(0, 1, "main", 1, 1, 1)])
    assert line(tiny, "training") == "1 epoch a task, 1 step of 1 image"


def test_what_is_not_usual_is_named() -> None:
    assert line(told("recipe=erratum_2022_06", "seed=3"), "method") == "dytox, recipe erratum_2022_06, seed 3"
    assert line(told("method=icarl", "model=convit_tiny"), "method") == "icarl (adaptation), seed 0"
    assert line(told("trainer.precision=bf16-mixed"), "network").endswith("on the CPU in bf16-mixed")
    (note,) = told(resumed_at="task 2/5, phase main").notes
    assert note == f"{'note':<{INDENT}}going on with task 2/5, phase main"


def test_uneven_classes_and_what_is_left_out_are_noted() -> None:
    assert told(tasks=scenario([2, 2], [50, 99, 60, 70])).notes == ()
    odd = dataclasses.replace(
        scenario([2, 2], [50, 99, 49, 100]), unused_folder="val", left_out=(LeftOut(".txt files", 2, "cat/a.txt"),)
    )
    uneven, unused, left_out = told(tasks=odd).notes
    counts = "uneven classes: 49 training images of class2 to 100 of class3"
    assert uneven.endswith(f"{counts}; to weigh them alike, type data.balance=loss")
    assert told("data.balance=loss", tasks=odd).notes[0].endswith(counts), "it is done"
    assert unused.endswith("val/ is not used")
    assert "left out: " in left_out


def test_a_run_that_learns_one_more_task_tells_of_that(monkeypatch: pytest.MonkeyPatch) -> None:
    extends: Any = SimpleNamespace(
        run=str(Path.cwd() / "first"), folders=[SimpleNamespace(folder=str(Path.cwd() / "new"))]
    )
    assert set(vars(extends)) <= {field.name for field in dataclasses.fields(ExtendsConfig)}
    config: Config = dataclasses.replace(filled(), extends=extends)
    grown = dataclasses.replace(scenario([3, 2]), fingerprints=("a", "b"))
    untested = dataclasses.replace(grown.tasks[0], test=torch.empty(0, dtype=torch.int64))
    grown = dataclasses.replace(grown, tasks=(untested, grown.tasks[1]))
    found = opening(config, grown, Path.cwd() / "more")
    assert line(found, "data") == "learns class3, class4 from new (200 images to train on, 60 to evaluate on)"
    assert [note[INDENT:] for note in found.notes] == [
        "goes on with first, which has learnt 3 classes",
        "not evaluated, for want of test images: tasks 1",
    ]
    assert not any("training images" in each for each in found.details), "of old tasks only exemplars are at hand"


def test_many_names_are_shortened() -> None:
    assert shortened([str(number) for number in range(9)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8"
    assert shortened([str(number) for number in range(20)]) == "0, 1, 2, 3, 4, 5, 6, 7 and 12 others"
