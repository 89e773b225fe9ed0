"""Files of a run: their content, and that a run killed while writing leaves a whole file."""

from __future__ import annotations

import csv
import json
import math

import pytest

from cl_lightning.core.missing_keys import complete_results
from cl_lightning.core.records import TaskRecord
from cl_lightning.metrics.accuracy import AccuracyMatrix
from cl_lightning.metrics.class_balance import ClassCounts
from cl_lightning.report.macro import macro_after_tasks
from cl_lightning.report.progress import phase_line, phase_scalars
from cl_lightning.report.results import (
    PhaseAccuracy,
    build_results,
    matrix_csv,
    phases_csv,
    write_json,
    write_results,
)

KEYS = [
    "protocol",
    "tasks",
    "accuracy_matrix",
    "average_incremental_accuracy",
    "last_accuracy",
    "forgetting",
    "backward_transfer",
    "forward_transfer",
    "forward_transfer_reason",
    "macro_accuracy",
    "last_macro_accuracy",
    "parameters",
    "costs",
    "notes",
    "provenance",
]
LINEAR = AccuracyMatrix((((40, 45, 50),), ((30, 40, 50), (9, 10, 10))))
MEANS = AccuracyMatrix((((50, 50, 50),), ((25, 40, 50), (5, 10, 10))))
KNOWN = AccuracyMatrix((((45, 45, 50),), ((45, 45, 50), (10, 10, 10))))
MATRICES = {"class_incremental": {"linear": LINEAR, "nearest_mean": MEANS}, "task_incremental": {"linear": KNOWN}}
TASKS = [TaskRecord(0, (0, 1), ("cat", "dog"), 12.5, 800.0, 100), TaskRecord(1, (2,), ("owl",), 6.25, 900.0, 110)]


def results(**changes):
    given = {"protocol": {"seed": 3}, "tasks": TASKS, "matrices": MATRICES, "main_readout": "linear"}
    return build_results(**{**given, "parameters": 110, "provenance": {"commit": "abc"}, **changes})


def test_results_have_the_promised_keys_and_numbers():
    r = results()
    assert list(r) == KEYS
    assert r["protocol"] == {"seed": 3, "evaluation": "class_incremental", "readout": "linear"}
    assert r["accuracy_matrix"]["class_incremental"]["linear"] == [[0.8], [0.6, 0.9]]
    assert r["accuracy_matrix"]["task_incremental"]["linear"] == [[0.9], [0.9, 1.0]]
    assert r["average_incremental_accuracy"] == pytest.approx((0.8 + 39 / 60) / 2)
    assert r["last_accuracy"] == 39 / 60
    assert r["forgetting"] == pytest.approx(0.2)
    assert r["backward_transfer"] == pytest.approx(-0.2)
    assert r["parameters"] == 110


COUNTS = {
    "class_incremental": {
        "linear": ClassCounts((((30, 30), (10, 20)), ((30, 30), (0, 20), (9, 10)))),
        "nearest_mean": ClassCounts((None, ((5, 30), (20, 20), (5, 10)))),
    }
}


def test_each_class_weighs_the_same_in_the_macro_accuracy():
    r = results(class_counts=COUNTS)
    assert r["macro_accuracy"]["class_incremental"]["linear"] == pytest.approx([0.75, (1 + 0 + 0.9) / 3])
    assert r["last_macro_accuracy"] == pytest.approx(1.9 / 3)
    assert r["macro_accuracy"]["class_incremental"]["nearest_mean"] == [None, pytest.approx((5 / 30 + 1 + 0.5) / 3)]
    assert r["macro_accuracy"]["task_incremental"]["linear"] == [None, None], "not counted"
    assert macro_after_tasks(r, "class_incremental", "linear") == r["macro_accuracy"]["class_incremental"]["linear"]


def test_results_of_an_earlier_version_have_no_macro_accuracy():
    r = results()
    assert (r["macro_accuracy"], r["last_macro_accuracy"]) == (None, None)
    assert macro_after_tasks(r, "class_incremental", "linear") == [None, None]
    older = {key: value for key, value in r.items() if "macro" not in key}
    assert macro_after_tasks(older, "class_incremental", "linear") == [None, None]
    completed = complete_results({**older, "protocol": {"method": "dytox"}})
    assert (completed["macro_accuracy"], completed["last_macro_accuracy"]) == (None, None)


def test_forward_transfer_does_not_apply_and_says_why():
    r = results()
    assert r["forward_transfer"] is None
    assert r["forward_transfer_reason"].startswith("a class has no score before it is learnt")


AFTER_MAIN = PhaseAccuracy(
    1,
    1,
    "main",
    {
        "class_incremental": {"linear": ((20, 40, 50), (10, 10, 10))},
        "task_incremental": {"linear": ((45, 45, 50), (10, 10, 10))},
    },
)


def test_what_phases_have_brought(tmp_path):
    r = results(after_phases=[AFTER_MAIN])
    assert [key for key in r if key != "phase_accuracy"] == KEYS
    assert r["phase_accuracy"] == [
        {
            "task": 1,
            "phase": "main",
            "accuracy": {"class_incremental": {"linear": 0.5}, "task_incremental": {"linear": 55 / 60}},
            "accuracy_by_task": {
                "class_incremental": {"linear": [0.4, 1.0]},
                "task_incremental": {"linear": [0.9, 1.0]},
            },
        }
    ]
    assert phases_csv([AFTER_MAIN]).splitlines()[:3] == [
        "protocol,readout,task,phase,eval_task,hits,total,accuracy",
        "class_incremental,linear,1,main,0,20,50,0.4",
        "class_incremental,linear,1,main,1,10,10,1.0",
    ]
    write_results(tmp_path, r, MATRICES, [AFTER_MAIN])
    assert (tmp_path / "accuracy_after_phases.csv").read_text() == phases_csv([AFTER_MAIN])
    assert PhaseAccuracy.from_plain(json.loads(json.dumps(AFTER_MAIN.to_plain()))) == AFTER_MAIN


def test_a_phase_is_reported_in_one_line():
    assert phase_line(AFTER_MAIN, "linear", 5) == "after phase main of task 2/5: 50.0 % of all classes seen so far"
    assert phase_line(AFTER_MAIN, "nme", 5).endswith(" seen so far (read-out linear)")
    told = PhaseAccuracy(1, 1, "main", {"task_incremental": AFTER_MAIN.counts["task_incremental"]})
    assert phase_line(told, "linear", 5).endswith("2/5: 91.7 % of all classes seen so far, the task being told")
    unseen = PhaseAccuracy(1, 1, "main", {"class_incremental": {"linear": ((0, 0, 0), (4, 5, 10))}})
    assert phase_line(unseen, "linear", 5).endswith(
        "2/5: 40.0 % of its own classes; tasks without test images were not evaluated"
    )
    assert phase_scalars(unseen) == {}
    assert phase_scalars(told) == {"accuracy/task_incremental/linear": 55 / 60}


def test_results_that_are_there_keep_who_made_them(tmp_path):
    """Going on with a finished run trains nothing: the commit and command of its numbers are those of before."""
    for provenance, parameters, expected in (("abc", 110, "abc"), ("later", 110, "abc"), ("later", 120, "later")):
        protocol = {"seed": 3, "lr": math.nan}
        made = results(provenance={"commit": provenance}, parameters=parameters, protocol=protocol)
        write_results(tmp_path, made, MATRICES)
        assert json.loads((tmp_path / "results.json").read_text())["provenance"]["commit"] == expected
    older = {key: value for key, value in made.items() if key != "notes"} | {"provenance": {"commit": "long ago"}}
    write_json(tmp_path / "results.json", older)
    write_results(tmp_path, made, MATRICES)
    assert json.loads((tmp_path / "results.json").read_text())["provenance"]["commit"] == "long ago"
    (tmp_path / "results.json").write_text("{")
    write_results(tmp_path, made, MATRICES)
    assert json.loads((tmp_path / "results.json").read_text())["parameters"] == 120


def test_tasks_hold_what_is_seen_after_them():
    task = results()["tasks"][1]
    assert (task["index"], task["classes"], task["names"], task["parameters"]) == (1, [2], ["owl"], 110)
    assert task["accuracy"] == {
        "class_incremental": {"linear": 39 / 60, "nearest_mean": 30 / 60},
        "task_incremental": {"linear": 55 / 60},
    }
    assert task["top5"]["class_incremental"]["linear"] == 50 / 60


def test_top_level_follows_the_main_readout():
    r = results(main_readout="nearest_mean")
    assert (r["last_accuracy"], r["protocol"]["readout"]) == (0.5, "nearest_mean")


def test_only_provenance_depends_on_time():
    slow = [TaskRecord(t.index, t.classes, t.names, 99.0, 1.0, t.parameters) for t in TASKS]
    a, b = results(), results(tasks=slow, provenance={"commit": "def"})
    assert a.pop("provenance")["tasks"][0] == {"index": 0, "seconds": 12.5, "images_per_second": 800.0}
    assert b.pop("provenance")["commit"] == "def"
    assert a == b


def test_one_task_has_no_forgetting():
    r = results(tasks=TASKS[:1], matrices={"class_incremental": {"linear": AccuracyMatrix(LINEAR.rows[:1])}})
    assert (r["forgetting"], r["backward_transfer"], r["last_accuracy"]) == (None, None, 0.8)


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ValueError, match=r"read-out cosine has not been evaluated, only \['linear', 'nearest_mean'\]"):
        results(main_readout="cosine")
    with pytest.raises(ValueError, match="do not match 1 tasks"):
        results(tasks=TASKS[:1])
    with pytest.raises(ValueError, match="has not been evaluated"):
        results(matrices={})


def test_csv_is_the_matrix_in_long_form():
    rows = list(csv.DictReader(matrix_csv(MATRICES).splitlines()))
    assert list(rows[0]) == ["protocol", "readout", "after_task", "eval_task", "hits", "total", "accuracy"]
    assert len(rows) == 9
    assert list(rows[2].values()) == ["class_incremental", "linear", "1", "1", "9", "10", "0.9"]
    assert all(float(row["accuracy"]) == int(row["hits"]) / int(row["total"]) for row in rows)


def test_files_are_written_and_read_back(tmp_path):
    write_results(tmp_path, results(), MATRICES)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["accuracy_matrix.csv", "results.json"]
    assert json.loads((tmp_path / "results.json").read_text()) == results()
    assert (tmp_path / "accuracy_matrix.csv").read_bytes() == matrix_csv(MATRICES).encode()


def test_json_has_no_numbers_that_json_lacks(tmp_path):
    write_json(tmp_path / "x.json", {"a": math.nan, "b": (1, math.inf, {"c": -math.inf}), "d": 0.5, "e": None})

    def refuse(name):
        raise AssertionError(name)

    text = (tmp_path / "x.json").read_text()
    assert json.loads(text, parse_constant=refuse) == {"a": None, "b": [1, None, {"c": None}], "d": 0.5, "e": None}


def test_what_was_not_evaluated_is_null_and_an_empty_cell():
    matrices = {"class_incremental": {"linear": AccuracyMatrix((((40, 45, 50),), ((0, 0, 0), (9, 10, 10))))}}
    r = build_results({}, TASKS, matrices, "linear", 110, {})
    assert r["accuracy_matrix"]["class_incremental"]["linear"] == [[0.8], [None, 0.9]]
    assert [r[key] for key in KEYS[3:7]] == [None] * 4
    assert [task["accuracy"]["class_incremental"]["linear"] for task in r["tasks"]] == [0.8, None]
    assert "class_incremental,linear,1,0,0,0,\n" in matrix_csv(matrices)


def test_results_of_an_earlier_version_keep_their_provenance_when_more_is_reported(tmp_path):
    write_results(tmp_path, results(), MATRICES)
    write_results(tmp_path, results(data={"images": {"a": 1}}, provenance={"commit": "later"}), MATRICES)
    read = json.loads((tmp_path / "results.json").read_text())
    assert (read["images"], read["provenance"]["commit"]) == ({"a": 1}, "abc")
    write_results(tmp_path, results(data={"images": {"a": 2}}, provenance={"commit": "later"}), MATRICES)
    assert json.loads((tmp_path / "results.json").read_text())["provenance"]["commit"] == "later"
