"""The runs of a comparison: chosen by what they were, finished, each once, and of one question."""

from __future__ import annotations

from pathlib import Path

import pytest

from cl_lightning.compare.measured import MeasuredRun
from cl_lightning.compare.select import did_you_mean, named, once_each, refuse_mixture, select, without_unfinished
from cl_lightning.core.errors import UserError
from tests.compare.made import measured, write_run


@pytest.fixture
def runs(tmp_path: Path) -> list[MeasuredRun]:
    write_run(tmp_path / "a", 8, seed=0)
    write_run(tmp_path / "b", 7, seed=1, memory="none")
    write_run(tmp_path / "c", 6, seed=2, method="wa", method_options={"temperature": 2.0})
    return measured(tmp_path)


def names(runs: list[MeasuredRun]) -> str:
    return " ".join(Path(run.name).name for run in runs)


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        ({}, "a b c"),
        ({"method": ["dytox"]}, "a b"),
        ({"method": ["dytox", "wa"]}, "a b c"),
        ({"method": ["dytox"], "memory": ["none"]}, "b"),
        ({"seed": ["0", "2"]}, "a c"),
        ({"method.temperature": ["2"]}, "c"),
        ({"order": ["identity"]}, "a b c"),
        ({"tasks": ["3x2"]}, "a b c"),
    ],
)
def test_runs_are_chosen_by_what_they_were(only: dict[str, list[str]], expected: str, runs: list[MeasuredRun]) -> None:
    assert names(select(runs, only)) == expected


@pytest.mark.parametrize(
    ("only", "line"),
    [
        ({"metod": ["wa"]}, "--only metod=wa: no run has a metod (did you mean method?)"),
        ({"method": ["der"]}, "--only method=der leaves no run: type --only method=dytox or method=wa"),
        ({"method": ["wa"], "memory": ["none"]}, "no run is all of --only method=wa --only memory=none: type fewer"),
    ],
)
def test_what_leaves_no_run_is_told(only: dict[str, list[str]], line: str, runs: list[MeasuredRun]) -> None:
    with pytest.raises(UserError) as refused:
        select(runs, only)
    assert str(refused.value).startswith(line)


def test_a_name_that_is_near_or_all() -> None:
    assert did_you_mean("memry", ["memory", "model"]) == " (did you mean memory?)"
    assert did_you_mean("xyz", ["memory", "model"]) == ": type one of memory, model"


def test_unfinished_runs_are_left_out_with_a_note(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 8)
    write_run(tmp_path / "b", 7, seed=1, done=2)
    finished, notes = without_unfinished(measured(tmp_path))
    assert names(finished) == "a"
    assert notes == [f"{tmp_path}/b is left out: 2 of 3 tasks are done (--unfinished keeps it)"]
    with pytest.raises(UserError, match=r"none of .*/b is finished: type --unfinished"):
        without_unfinished(measured(tmp_path / "b"))


def test_one_run_in_two_folders_counts_once_and_two_answers_are_refused(tmp_path: Path) -> None:
    for name, last in (("a", 8), ("b", 8), ("c", 7)):
        write_run(tmp_path / name, last)
    a, b, c = measured(tmp_path)
    same = {run.name: "group" for run in (a, b, c)}
    assert once_each([a, b], same) == ([a], [f"{b.name} is the same run as {a.name}: it counts once"])
    with pytest.raises(UserError) as refused:
        once_each([a, c], same)
    told = str(refused.value)
    assert told.startswith(f"{a.name} and {c.name} have the same protocol, seed 0 and class order, and another ")
    assert told.endswith(f"(Avg 92.22 and 88.33): type --leave-out {c.name}, or the other one")
    assert once_each([a, c], {a.name: "one", c.name: "other"}) == ([a, c], []), "of two groups both count"


def test_runs_of_another_question_are_refused_and_compared_across_it(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 8)
    write_run(tmp_path / "b", 7, evaluates_on="validation")
    runs = measured(tmp_path)
    with pytest.raises(UserError) as refused:
        refuse_mixture(runs)
    assert str(refused.value) == (
        f"these runs are not comparable: evaluates_on is test in {tmp_path}/a and validation in {tmp_path}/b: type "
        "--only evaluates_on=test (or the other) to choose, or --across evaluates_on to have them in one table"
    )
    assert refuse_mixture(runs, ["evaluates_on"])[0] == "evaluates_on"
    assert refuse_mixture(runs[:1], ["evaluates_on"]) == ()


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("memory", "--across memory is not possible, memory tells groups apart by itself: type one of data, classes, "),
        ("colour", "--across colour is not possible, colour is nothing that runs are compared under: type one of "),
    ],
)
def test_only_parts_of_the_question_can_be_compared_across(key: str, line: str, runs: list[MeasuredRun]) -> None:
    with pytest.raises(UserError) as refused:
        refuse_mixture(runs, [key])
    assert str(refused.value).startswith(line)


def test_a_few_names_and_the_number_of_all(runs: list[MeasuredRun]) -> None:
    assert named(runs, 3) == ", ".join(run.name for run in runs)
    assert named(runs, 1) == f"{runs[0].name} (3 runs)"
