"""A trained model: which read-out and which classes are asked for, and scores that are none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cl_lightning.core.errors import UserError
from cl_lightning.core.types import Readout
from cl_lightning.deploy.model import TrainedModel
from cl_lightning.deploy.preprocessing import Preprocessing

PREPROCESSING = Preprocessing(4, 4, 1, (0.5,), (0.25,))


def model(**changed: Any) -> TrainedModel:
    """Two tasks of two classes and one of one; scores are sums of an image's normalised pixels, times the label."""
    network: Any = nn.Linear(1, 1)

    def predict(images: Tensor) -> dict[str, Tensor]:
        total = images.flatten(1).sum(dim=1, keepdim=True)
        return {"linear": total * torch.arange(5), "nme": -total * torch.arange(5)}

    given: dict[str, Any] = {
        "source": "run", "stage": "whole", "network": network, "predict": predict,
        "readouts": {"linear": Readout(), "nme": Readout(means=torch.zeros(5, 1))}, "class_names": tuple("abcde"),
        "task_sizes": (2, 2, 1), "preprocessing": PREPROCESSING, "protocol": {},
    }  # fmt: skip
    return TrainedModel(**{**given, **changed})


def test_the_first_read_out_is_the_main_one() -> None:
    assert model().readout(None) == "linear"
    assert model().readout("nme") == "nme"
    with pytest.raises(UserError, match="--readout x does not exist: run has linear, nme, type --readout linear"):
        model().readout("x")


def test_class_means_of_an_interrupted_task_are_not_all_there() -> None:
    half = model(readouts={"nme": Readout(means=torch.zeros(3, 1)), "linear": Readout()})
    with pytest.raises(UserError, match=r"--readout nme has the means of 3 of 5 classes, .* type --readout linear$"):
        half.readout(None)


def test_what_infers_the_task_outside_of_the_network_is_in_no_file() -> None:
    entropy = Readout(by_network=False)
    assert model().exportable(None) == "linear"
    mixed = model(readouts={"entropy": entropy, "linear": Readout()})
    with pytest.raises(UserError, match=r"cannot be exported: type --readout linear$"):
        mixed.exportable(None)
    with pytest.raises(UserError, match=r"it has no other: train with method.readouts=\[linear\]"):
        model(readouts={"entropy": entropy}).exportable(None)


@pytest.mark.parametrize(("task", "labels"), [(None, range(5)), (1, range(2)), (2, range(2, 4)), (3, range(4, 5))])
def test_classes_of_a_task_counted_from_1(task: int | None, labels: range) -> None:
    assert model().classes_of(task) == labels
    if task is not None:
        assert {model().task_of(label) for label in labels} == {task}


@pytest.mark.parametrize("task", [0, -1, 4])
def test_other_tasks_are_refused(task: int) -> None:
    with pytest.raises(
        UserError, match=f"--task {task} is not among the 3 tasks that run has learnt: type --task 1 to 3"
    ):
        model().classes_of(task)


def test_scores_are_those_of_normalised_images() -> None:
    images = torch.full((2, 1, 4, 4), 255, dtype=torch.uint8)
    images[1] = 0
    total = 16 * (1 - 0.5) / 0.25
    expected = torch.tensor([[total], [-total]]) * torch.arange(5)
    torch.testing.assert_close(model().scores(images, "linear"), expected)
    torch.testing.assert_close(model().scores(images, "nme"), -expected)


def test_scores_that_are_no_numbers_are_told() -> None:
    broken = model(predict=lambda images: {"linear": torch.full((len(images), 5), torch.inf)})
    with pytest.raises(UserError, match="run gives scores that are not finite: it had diverged, use another run"):
        broken.scores(torch.zeros(1, 1, 4, 4, dtype=torch.uint8), "linear")


def test_another_limit_of_pixels() -> None:
    assert model().reading_at_most(None).preprocessing.max_pixels == PREPROCESSING.max_pixels
    limited = model().reading_at_most(7)
    assert limited.preprocessing == replace(PREPROCESSING, max_pixels=7)
