"""Costs beside accuracies: read from results, whatever their version measured."""

from __future__ import annotations

from typing import Any

import pytest

from cl_lightning.core.missing_keys import complete_results
from cl_lightning.core.records import PhaseRecord, TaskRecord
from cl_lightning.metrics.accuracy import AccuracyMatrix
from cl_lightning.report.costs import COSTS, cost_texts, costs_of
from cl_lightning.report.results import build_results


def results(*counts: int | None, gpu: int | None = None) -> dict[str, Any]:
    """Results of a task for each of ``counts``, the multiply-adds after it."""
    rows = tuple(tuple((5, 6, 10) for _ in range(after + 1)) for after in range(len(counts)))
    records = [
        TaskRecord(task, (task,), (str(task),), 1.0, 1.0, 1000, count, count and 100 * (task + 1) << 20, gpu)
        for task, count in enumerate(counts)
    ]
    made = {"seconds": 75.2, "disk": {"checkpoints": 3 << 20, "exemplars": 1536}}
    phases = [PhaseRecord(task, "main", 10, 500, 2.0 + task) for task in range(len(counts))]
    matrices = {"class_incremental": {"linear": AccuracyMatrix(rows)}}
    return build_results({"seed": 0, "method": "dytox"}, records, matrices, "linear", 136_457, made, phases)


def test_what_equal_runs_agree_in_is_an_entry_of_its_own() -> None:
    found = results(1_000_000, 2_500_000)
    assert found["costs"] == {"multiply_adds": 2_500_000, "multiply_adds_by_task": [1_000_000, 2_500_000]}
    assert (found["provenance"]["peak_memory"], found["provenance"]["peak_gpu_memory"]) == (200 << 20, None)


def test_costs_by_name() -> None:
    found = costs_of(results(1_000_000, 2_500_000, gpu=1 << 30))
    assert list(found) == [cost.name for cost in COSTS]
    assert found["parameters"] == 136_457
    assert found["images_per_second"] == pytest.approx(1000 / 5)
    assert (found["checkpoint_bytes"], found["exemplar_bytes"]) == (3 << 20, 1536)
    assert found["peak_gpu_memory"] == 1 << 30


def test_costs_for_people() -> None:
    assert cost_texts(results(1_000_000, 2_500_000)) == {
        "parameters": "0.14 million",
        "multiply-adds an image": "2.5 million",
        "peak memory": "200.0 MiB",
        "seconds": "75",
        "images/s in training": "200",
        "checkpoints": "3.0 MiB",
        "exemplars": "1.5 KiB",
    }
    assert cost_texts(results(1, gpu=1 << 30))["peak GPU memory"] == "1.0 GiB"


def test_a_run_that_came_to_count_them_has_those_of_its_last_task() -> None:
    assert results(None, 5)["costs"] == {"multiply_adds": 5, "multiply_adds_by_task": [None, 5]}


def test_results_of_an_earlier_version_have_none() -> None:
    old = results(None, None)
    assert old.pop("costs") is None
    old["provenance"] = {"seconds": 75.2}
    for found in (old, complete_results({**old, "protocol": {"method": "dytox", "seed": 0}})):
        texts = cost_texts(found)
        assert (texts["parameters"], texts["seconds"]) == ("0.14 million", "75")
        assert {texts[name] for name in ("multiply-adds an image", "peak memory", "checkpoints", "exemplars")} == {
            "n/a"
        }
