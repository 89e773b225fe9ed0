"""The closing text: right numbers, a line with the protocol for the log, readable at any width and number of tasks."""

from __future__ import annotations

import pytest

from cl_lightning.core.records import TaskRecord
from cl_lightning.metrics.accuracy import AccuracyMatrix
from cl_lightning.metrics.class_balance import ClassCounts
from cl_lightning.report.results import build_results
from cl_lightning.report.table import closing_lines, headline, protocol_line, render_table

PROTOCOL = {"method": "dytox", "memory": "2000 total, global", "order": "cifar100_order1", "seed": 7, "replicas": 1}


def results_of(rows, readouts=("linear",), planned=None):
    tasks = [TaskRecord(t, (t,), (f"[red]{t}[/red]",), 1.0, 1.0, 5) for t in range(len(rows))]
    protocol = {**PROTOCOL, "data": "made", "tasks": [1] * (planned or len(rows))}
    matrices = {"class_incremental": {name: AccuracyMatrix(tuple(map(tuple, rows))) for name in readouts}}
    return build_results(protocol, tasks, matrices, readouts[0], 10_733_584, {"commit": "abc1234"})


def falling(tasks):
    """Accuracy 100 % on a new task, half a point lost with each later task."""
    return [[(1000 - 5 * (after - task), 1000, 1000) for task in range(after + 1)] for after in range(tasks)]


def cells(text, first):
    """The words of the line whose first word is ``first``."""
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [first])


def test_numbers_and_their_protocol():
    """Tasks are counted from 1 here, for people; from 0 in the files."""
    rows = [[(40, 45, 50)], [(30, 40, 50), (9, 10, 10)]]
    text = render_table(results_of(rows, ("linear", "nearest_mean")), "out/run", 100)
    assert cells(text, "after") == ["after", "1", "2", "all", "seen"]
    assert cells(text, "1") == ["1", "80.00", "80.00"]
    assert cells(text, "2") == ["2", "60.00", "90.00", "65.00"]
    assert "class-incremental, linear *      72.50  65.00       20.00  -20.00" in text
    assert "class-incremental, nearest_mean  72.50" in text
    assert text.splitlines()[0].endswith(" class-incremental, linear")
    line = protocol_line(results_of(rows, ("linear", "nearest_mean")))
    for key, value in PROTOCOL.items():
        assert f"{key}={value}" in line
    for word in ("evaluation=class_incremental", "readout=linear", "commit=abc1234", "=10,733,584"):
        assert word in line


def balanced_results(uneven, readouts=("linear",)):
    """Two tasks of a class each; the second has 40 test images, or 10 with ``uneven``."""
    tasks = [TaskRecord(t, (t,), (name,), 1.0, 1.0, 5) for t, name in enumerate("ab")]
    rows = (((40, 40, 40),), ((20, 20, 40), (0, 0, 10 if uneven else 40)))
    counts = ClassCounts((((40, 40),), ((20, 40), (0, 10 if uneven else 40))))
    protocols = ("class_incremental", "task_incremental")
    return build_results(
        PROTOCOL | {"tasks": [1, 1]},
        tasks,
        {protocol: dict.fromkeys(readouts, AccuracyMatrix(rows)) for protocol in protocols},
        readouts[0],
        5,
        {},
        class_counts={protocol: dict.fromkeys(readouts, counts) for protocol in protocols},
    )


@pytest.mark.parametrize(
    ("uneven", "width", "columns"),
    [
        (True, 80, ["Avg", "Last", "Macro", "Forgetting", "BWT"]),
        (True, 60, ["Avg", "Last", "Macro", "Forgetting"]),
        (True, 50, ["Avg", "Last", "Macro", "Forgetting"]),
        (True, 40, ["Avg", "Last", "Macro"]),
        (False, 80, ["Avg", "Last", "Macro", "Forgetting", "BWT"]),
        (False, 60, ["Avg", "Last", "Forgetting", "BWT"]),
        (False, 40, ["Avg", "Last", "Forgetting"]),
    ],
)
def test_a_narrow_table_keeps_the_columns_that_say_most(uneven, width, columns):
    """Macro is one of them where classes have unequally many test images, and goes first where they do not."""
    text = render_table(balanced_results(uneven), "run", width)
    assert next(line.split("read-out")[1].split() for line in text.splitlines() if "read-out" in line) == columns
    assert ("Macro: the last value with each class weighing the same" in " ".join(text.split())) == ("Macro" in columns)
    assert ("BWT (backward transfer)" in " ".join(text.split())) == ("BWT" in columns)
    assert max(map(len, text.splitlines())) <= width
    assert text.isascii()


@pytest.mark.parametrize("width", [40, 44, 50, 55, 60, 64, 70, 80])
def test_the_star_of_the_main_row_stands_beside_its_read_out(width):
    lines = render_table(balanced_results(True, ("nearest_mean", "linear")), "run", width).splitlines()
    assert "*" not in [line.strip() for line in lines]
    assert sum("nearest_mean *" in line for line in lines) == 1


def test_the_table_of_a_single_task_is_its_accuracy():
    """Its protocols are all the same, and nothing is old yet."""
    tasks = [TaskRecord(0, (0, 1), ("a", "b"), 1.0, 1.0, 5)]
    matrices = {
        protocol: {"linear": AccuracyMatrix((((30, 30, 40),),))}
        for protocol in ("class_incremental", "task_incremental", "task_inference")
    }
    counts = {"class_incremental": {"linear": ClassCounts((((30, 30), (0, 10)),))}}
    results = build_results(PROTOCOL | {"tasks": [2]}, tasks, matrices, "linear", 5, {}, class_counts=counts)
    for width in (40, 80):
        text = render_table(results, "run", width)
        assert cells(text, "protocol,")[2:] == ["Accuracy", "Macro"]
        assert sum("75.00" in line for line in text.splitlines()) == 1
        assert cells(text, "class-incremental,")[-2:] == ["75.00", "50.00"]
        assert "n/a" not in text
        assert "*" not in text
        assert "ask-inc" not in text


def test_total_forgetting_is_printed_as_100():
    """Increments of 20 and 50: public code prints 50 and 20 here."""
    for steps in (5, 2):
        rows = [[(10 * (task == after), 10, 10) for task in range(after + 1)] for after in range(steps)]
        assert "100.00  -100.00" in render_table(results_of(rows), "run", 100)


def test_before_anything_is_old_there_is_nothing_to_forget():
    text = render_table(results_of(falling(1), planned=5), "run", 100)
    assert cells(text, "class-incremental,")[-2:] == ["n/a", "n/a"]
    assert "n/a: nothing is old yet" in text


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160, 500])
@pytest.mark.parametrize("tasks", [1, 2, 10, 11, 20, 50, 100, 150])
def test_any_number_of_tasks_fits_any_width(tasks, width):
    text = render_table(results_of(falling(tasks), planned=max(tasks, 2)), "run", width)
    assert max(map(len, text.splitlines())) <= width
    assert text.isascii()
    assert "\x1b" not in text
    last = cells(text, str(tasks))
    assert last[-1] == f"{100 - (tasks - 1) / 4:.2f}"  # the accuracy on all seen is never left out
    assert len(text.splitlines()) <= 50, "a screen holds it"
    flat = " ".join(text.split())
    columns = [word for word in cells(text, "after")[1:-2] if word != "..."]
    if len(columns) < tasks:
        assert f"{len(columns)} of {tasks} task columns fit; the full matrix is in run/accuracy_matrix.csv" in flat
    elif tasks > 25:
        assert f"24 of {tasks} rows are shown; the full matrix is in run/accuracy_matrix.csv" in flat
    else:
        assert "full matrix" not in flat
    for place, column in enumerate(columns[: len(columns) // 2]):
        assert last[1 + place] == f"{100 - (tasks - int(column)) / 2:.2f}"


def test_ten_tasks_fit_a_hundred_characters():
    assert "full matrix" not in render_table(results_of(falling(10)), "run", 100)


def test_brackets_are_text_and_not_markup():
    results = results_of(falling(2), ("[red]head",))
    assert "class-incremental, [red]head *" in render_table(results, "run", 100)
    results["protocol"]["note"] = "[bold]x[/bold] :smile:"
    assert "note=[bold]x[/bold] :smile:" in protocol_line(results)
    assert "run[0]/" in render_table(results_of(falling(50)), "run[0]", 100)


def test_a_task_that_was_not_evaluated_is_no_number():
    text = render_table(results_of([[(40, 45, 50)], [(0, 0, 0), (9, 10, 10)]]), "out/run", 100)
    assert cells(text, "2") == ["2", "n/a", "90.00", "n/a"]
    assert cells(text, "class-incremental,")[-4:] == ["n/a"] * 4
    assert "not evaluated, the test images of that task were not at hand" in text
    assert "not at hand" not in render_table(results_of([[(40, 45, 50)]]), "out/run", 100)


@pytest.mark.parametrize(
    ("tasks", "planned", "line"),
    [
        (1, 1, "accuracy 100.00 %"),
        (2, 2, "average incremental accuracy 99.88 %, last 99.75 % (class-incremental)"),
        (1, 3, "average incremental accuracy 100.00 %, last 100.00 % (class-incremental, after task 1 of 3)"),
    ],
)
def test_the_main_result_is_a_line(tasks, planned, line):
    assert headline(results_of(falling(tasks), planned=planned)) == line


def test_a_result_that_there_is_not_is_none():
    assert "accuracy n/a, last n/a" in headline(results_of([[(40, 45, 50)], [(0, 0, 0), (9, 10, 10)]]))


def test_the_end_names_the_files_and_the_command_that_is_typed_next():
    result, page, numbers, following = closing_lines(results_of(falling(2)), "my runs/1", "my runs/1/report.html")
    assert result.endswith(headline(results_of(falling(2))))
    assert page == "report   my runs/1/report.html"
    assert numbers.endswith("my runs/1/results.json")
    assert following == "next     python -m cl_lightning.predict 'my runs/1' PICTURE.png"
    narrow = closing_lines(results_of(falling(2)), "a long/path that is/not broken", "report.html", 40)
    assert narrow[0].splitlines() == [
        "result   average incremental accuracy",
        "         99.88 %, last 99.75 %",
        "         (class-incremental)",
    ]
    assert len(narrow[-1].splitlines()) == 1
    without = closing_lines(results_of(falling(2)), "run", None)
    assert without[1] == "report   python -m cl_lightning.report run", "the command that makes it"
