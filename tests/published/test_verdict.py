"""Verdicts: nothing incomplete, deviating or outside its band is ever called verified."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from scipy import stats

from cl_lightning.metrics.spread import spread
from cl_lightning.published.stored_results import StoredRun, condense, parse_stored, read_stored, store
from cl_lightning.published.tables import Job, Table, parse_table
from cl_lightning.published.verdict import Outcome, Status, judge_cell, judge_contrast

TABLE = parse_table(
    "small",
    {
        "title": "t",
        "about": "a",
        "overrides": [],
        "columns": {"x": {"title": "X", "overrides": []}},
        "runs": {"one": [], "two": [], "three": []},
        "rows": {
            "banded": {
                "title": "b",
                "overrides": [],
                "cells": {"x": {"published": {"avg": 60.0, "last": 50.0}, "band": {"avg": [58, 62], "last": [48, 52]}}},
            },
            "free": {"title": "f", "overrides": []},
        },
        "contrasts": {
            "c": {"question": "?", "more": "banded", "less": "free", "expected": {"avg": [2, 6]}, "source": "s"}
        },
    },
)


def run(*curve: float, tasks: int = 2, **config: Any) -> StoredRun:
    return StoredRun(config, curve, tuple(min(100.0, value + 20) for value in curve), tasks, {})


def found(row: str, *runs: StoredRun, table: Table = TABLE) -> dict[Job, StoredRun]:
    return dict(zip(table.jobs([row]), runs, strict=False))


def deviating(run: StoredRun, job: Job) -> list[str]:
    return [f"{key}={value}" for key, value in run.science.items()]


def status(*runs: StoredRun, row: str = "banded") -> Status:
    return judge_cell(TABLE, row, "x", found(row, *runs), deviating).status


def test_verified_needs_everything() -> None:
    good = run(70.0, 50.0)
    assert status(good, good, good) is Status.VERIFIED
    assert status(good, good) is Status.PARTIAL
    assert status(good, good, run(70.0)) is Status.PARTIAL
    assert status(good, good, run(70.0, 50.0, epochs_scale=0.1)) is Status.PARTIAL
    assert status() is Status.NOT_RUN
    assert status(good, good, good, row="free") is Status.COMPLETE


def test_values_of_an_earlier_version_verify_nothing() -> None:
    ours = dataclasses.replace(TABLE, reference="earlier version of this project")
    for last, expected in ((50.0, Status.AS_BEFORE), (40.0, Status.OUTSIDE)):
        runs = found("banded", *[run(70.0, last)] * 3, table=ours)
        assert judge_cell(ours, "banded", "x", runs, deviating).status is expected


def test_the_mean_of_each_metric_must_lie_in_its_band() -> None:
    assert status(run(70.0, 50.0), run(70.0, 45.0), run(70.0, 55.0)) is Status.VERIFIED, "single runs may stray"
    verdict = judge_cell(TABLE, "banded", "x", found("banded", *[run(71.0, 52.5)] * 3), deviating)
    assert verdict.status is Status.OUTSIDE
    assert verdict.inside == {"avg": True, "last": False}
    assert verdict.ours["last"].mean == 52.5


def test_what_is_missing_is_reported() -> None:
    runs = found("banded", run(70.0, 50.0, seed=7), run(70.0))
    verdict = judge_cell(TABLE, "banded", "x", runs, deviating)
    assert verdict.reasons == ["1 of 3 runs", "one: seed=7", "two: 1 of 2 tasks"]
    assert verdict.ours["avg"].mean == 60.0


def test_a_mean_is_never_over_runs_with_different_deviations() -> None:
    """Runs that follow the table count, the others are named; without any, the largest group of equal deviations."""
    good, short, shorter = run(70.0, 50.0), run(20.0, 10.0, epochs_scale=0.1), run(12.0, 8.0, epochs_scale=0.05)
    mixed = judge_cell(TABLE, "banded", "x", found("banded", short, good, good), deviating)
    assert (mixed.status, mixed.runs, mixed.ours["avg"].mean) == (Status.PARTIAL, 2, 60.0)
    assert mixed.reasons == ["2 of 3 runs", "one: epochs_scale=0.1"]
    one = judge_cell(TABLE, "banded", "x", found("banded", good, short, short), deviating)
    assert (one.runs, one.ours["avg"].mean) == (1, 60.0)
    none = judge_cell(TABLE, "banded", "x", found("banded", shorter, short, short), deviating)
    assert (none.status, none.runs, none.ours["avg"].mean) == (Status.PARTIAL, 2, 15.0)


def contrast(more: list[float], less: list[float], **config: Any) -> tuple[Outcome, Any]:
    runs = {**found("banded", *[run(v, v, **config) for v in more]), **found("free", *[run(v, v) for v in less])}
    verdict = judge_contrast(TABLE, TABLE.contrasts["c"], "x", runs, deviating)
    return verdict.outcomes["avg"], verdict.differences.get("avg")


def test_contrasts_are_paired_differences_with_students_interval() -> None:
    outcome, difference = contrast([54.0, 64.5, 73.5], [50.0, 60.0, 70.0])
    assert outcome is Outcome.CONFIRMED
    assert difference.mean == pytest.approx(4.0)
    expected = stats.ttest_rel([54.0, 64.5, 73.5], [50.0, 60.0, 70.0]).confidence_interval(0.95)
    assert difference.mean - difference.half_width == pytest.approx(expected.low)
    assert difference.mean + difference.half_width == pytest.approx(expected.high)


@pytest.mark.parametrize(
    ("more", "less", "outcome"),
    [
        ([60.0, 60.5, 60.2], [50.0, 50.0, 50.0], Outcome.OTHER_SIZE),
        ([46.0, 46.5, 46.2], [50.0, 50.0, 50.0], Outcome.OTHER_SIZE),
        ([60.0, 50.0, 52.0], [50.0, 50.0, 50.0], Outcome.UNRESOLVED),
        ([50.0, 50.0, 50.0], [50.0, 50.0, 50.0], Outcome.UNRESOLVED),
        ([54.0, 54.5], [50.0, 50.0, 50.0], Outcome.PARTIAL),
        ([54.0], [], Outcome.NOT_RUN),
        ([], [], Outcome.NOT_RUN),
    ],
)
def test_outcomes(more: list[float], less: list[float], outcome: Outcome) -> None:
    assert contrast(more, less)[0] is outcome


@pytest.mark.parametrize(
    ("expected", "outcome"),
    [((-1, 6), Outcome.ALLOWED), ((0, 6), Outcome.CONFIRMED), ((-1, 3), Outcome.OTHER_SIZE)],
)
def test_a_direction_that_was_not_foretold_is_not_confirmed(expected: tuple[float, float], outcome: Outcome) -> None:
    more, less = ([run(v, v) for v in values] for values in ((54.0, 64.5, 73.5), (50.0, 60.0, 70.0)))
    runs = {**found("banded", *more), **found("free", *less)}
    asked = dataclasses.replace(TABLE.contrasts["c"], expected={"avg": expected})
    assert judge_contrast(TABLE, asked, "x", runs, deviating).outcomes["avg"] is outcome


def test_runs_under_another_configuration_are_no_pairs() -> None:
    assert contrast([54.0, 54.5, 54.2], [50.0, 50.0, 50.0], epochs_scale=0.1) == (Outcome.NOT_RUN, None)


def test_spread_of_one_value_has_no_width() -> None:
    assert (spread([3.0]).std, spread([3.0]).half_width) == (None, None)
    assert spread([1.0, 3.0]).std == pytest.approx(math.sqrt(2))


RESULTS = {
    "protocol": {"evaluation": "class_incremental", "readout": "nme", "tasks": [2, 2], "precision": "32-true"},
    "tasks": [
        {"accuracy": {"class_incremental": {"nme": 0.9, "linear": 0.1}}, "top5": {"class_incremental": {"nme": 1.0}}},
        {"accuracy": {"class_incremental": {"nme": 0.7, "linear": 0.1}}, "top5": {"class_incremental": {"nme": 0.96}}},
    ],
    "last_accuracy": 0.7,
    "provenance": {"commit": "abc", "host": "secret", "command": "data.root=/somewhere", "seconds": 5.0},
}


def test_stored_runs_hold_what_a_table_needs_and_no_host_or_path(tmp_path) -> None:
    job = TABLE.jobs(["banded"])[0]
    path = store(tmp_path, job, condense(RESULTS, {"seed": 1}))
    text = path.read_text()
    assert "secret" not in text
    assert "somewhere" not in text
    again = read_stored(tmp_path, TABLE.jobs())
    assert list(again) == [job]
    assert again[job].metrics == pytest.approx(
        {"avg": 80, "last": 70, "avg5": 98, "last5": 96, "class_avg": 80, "class_last": 70}
    )
    assert again[job].finished
    assert again[job].science == {"seed": 1}
    assert again[job].content["provenance"] == {"commit": "abc", "seconds": 5.0, "tasks": []}
    longer = {**RESULTS, "protocol": {**RESULTS["protocol"], "tasks": [2, 2, 2]}}
    assert not parse_stored(condense(longer, {})).finished
