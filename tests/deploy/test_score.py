"""The numbers of a score, by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from cl_lightning.core.types import CLASS_INCREMENTAL, TASK_INCREMENTAL, TASK_INFERENCE, Readout
from cl_lightning.deploy.evaluation import Competition, Evaluation, competition, evaluate
from cl_lightning.deploy.score import confusions, differs_from_results, score_of
from cl_lightning.deploy.score_text import as_table
from cl_lightning.metrics.accuracy import Counts
from cl_lightning.metrics.confusion import Tally
from tests.deploy.test_evaluation import nothing, reader, told
from tests.deploy.test_model import model


def score(**changed: Any) -> dict[str, Any]:
    who = competition(told(), **changed)
    found = evaluate(told(), reader().of_labels(who.labels), who, 3, nothing)
    return score_of(found, told(), "nowhere", ["badger"])


def test_accuracy_over_images_classes_and_tasks() -> None:
    found = score()
    assert found["accuracy"][CLASS_INCREMENTAL] == {"linear": 4 / 7, "always b": 1 / 7}
    assert found["macro_accuracy"][CLASS_INCREMENTAL]["linear"] == pytest.approx((1 / 2 + 1 + 1 / 2 + 1 / 2) / 4)
    assert found["accuracy_by_class"][CLASS_INCREMENTAL]["linear"] == [0.5, 1.0, 0.5, None, 0.5]
    assert found["accuracy_by_task"][CLASS_INCREMENTAL]["linear"] == [2 / 3, 0.5, 0.5]
    assert found["accuracy_by_task"][TASK_INFERENCE]["linear"] == [1.0, 0.5, 0.5]
    assert found["right_by_class"][TASK_INCREMENTAL]["linear"] == [1, 1, 2, 0, 2]
    assert (found["evaluation"], found["readout"]) == (CLASS_INCREMENTAL, "linear")
    assert found["classes"][2] == {"name": "c", "task": 2, "images": 2}
    assert found["images"] == {"from": "nowhere", "evaluated": 7, "unknown_classes": ["badger"], "skipped": []}


def test_top_five_is_a_question_only_where_more_compete() -> None:
    assert score()["top5"][CLASS_INCREMENTAL]["linear"] is None, "five classes"
    six = model(class_names=tuple("abcdef"), task_sizes=(6,))
    counts = Counts(torch.tensor([1] * 6), torch.tensor([3] * 6), torch.tensor([4] * 6))
    who = Competition(range(6), (0, 6), (CLASS_INCREMENTAL, TASK_INCREMENTAL, TASK_INFERENCE), ("linear",))
    given = {(protocol, "linear"): counts for protocol in who.protocols}
    tally = Tally()
    tally.add_probabilities(torch.eye(6), torch.arange(6), 0)
    answered = tally.total
    assert answered is not None
    found = score_of(Evaluation(who, given, {"linear": answered}, [], 1.0), six, "nowhere")
    assert {protocol: of["linear"] for protocol, of in found["top5"].items()} == {
        CLASS_INCREMENTAL: 0.75, TASK_INCREMENTAL: 0.75, TASK_INFERENCE: None,
    }  # fmt: skip


def test_calibration_is_over_all_images() -> None:
    found = score()["calibration"]["linear"]
    sure = torch.softmax(10 * torch.eye(5)[0], 0)[0].item()
    assert found["expected_calibration_error"] == pytest.approx(sure - 4 / 7, abs=1e-4)
    assert sum(each["images"] for each in found["bins"]) == 7
    assert found["bins"][9]["accuracy"] == 4 / 7
    assert found["confidence"].startswith("softmax of score")


def test_scores_that_rank_only_have_no_calibration() -> None:
    ranked = dataclasses.replace(model(), readouts={"linear": Readout("none")})
    counts = Counts(torch.tensor([1] * 5), torch.tensor([1] * 5), torch.tensor([1] * 5))
    who = Competition(range(5), (0, 2, 4, 5), (CLASS_INCREMENTAL, TASK_INCREMENTAL, TASK_INFERENCE), ("linear",))
    given = {(protocol, "linear"): counts for protocol in who.protocols}
    tally = Tally()
    tally.add(ranked.readouts["linear"], torch.eye(5), torch.arange(5), 0)
    assert tally.total is not None
    found = score_of(Evaluation(who, given, {"linear": tally.total}, [], 1.0), ranked, "nowhere")
    assert found["calibration"]["linear"] == {
        "expected_calibration_error": None,
        "bins": [],
        "confidence": "none, the scores rank the classes and nothing makes probabilities of them",
    }
    table = as_table(found, 100)
    assert "Confidence: none, the scores rank the classes" in table
    assert "calibration" not in table


def test_the_most_frequent_mistakes_come_first() -> None:
    assert confusions(score(), 9) == [("a", "b", 1, 0.5), ("c", "a", 1, 0.5), ("e", "d", 1, 0.5)]
    assert len(confusions(score(), 2)) == 2
    assert confusions(score(readout="always b"), 1) == [("a", "b", 2, 1.0)]


def test_numbers_are_compared_with_those_that_the_run_counted() -> None:
    found = score()
    recorded = {
        protocol: {name: [[], [], list(values)] for name, values in of.items()}
        for protocol, of in found["accuracy_by_task"].items()
    }
    assert differs_from_results(found, {"accuracy_matrix": recorded}) is None
    recorded[TASK_INFERENCE]["always b"][2][1] = None
    assert differs_from_results(found, {"accuracy_matrix": recorded}) is None, "the run had no images of it"
    recorded[TASK_INFERENCE]["linear"][2][1] = 0.75
    told_apart = "task-inference, linear, task 2: 50.00 % here, 75.00 % there"
    assert differs_from_results(found, {"accuracy_matrix": recorded}) == told_apart
