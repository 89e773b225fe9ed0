"""The tables that are shipped: every cell says where it comes from, and its command line is accepted."""

from __future__ import annotations

from typing import Any

import pytest

from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.core.errors import UserError
from cl_lightning.published.tables import METRICS, has_curve, load_table, parse_table, table_names

SMALL: dict[str, Any] = {
    "title": "a table",
    "about": "what it is",
    "overrides": ["method=dytox"],
    "columns": {"a": {"title": "A", "overrides": ["data=digits"]}, "b": {"title": "B", "overrides": []}},
    "runs": {"one": ["seed=1"], "two": ["seed=2"]},
    "rows": {
        "first": {
            "title": "first row",
            "overrides": ["memory=none"],
            "cells": {"a": {"published": {"avg": 50.0, "std": 1.0}, "band": {"avg": [48, 52]}}},
        },
        "second": {"title": "second row", "overrides": []},
    },
    "contrasts": {
        "c": {"question": "why?", "more": "first", "less": "second", "expected": {"avg": [0, 4]}, "source": "here"}
    },
}


def test_commands_go_from_the_general_to_the_particular() -> None:
    table = parse_table("small", SMALL)
    jobs = {job.path: job.overrides for job in table.jobs()}
    assert jobs["small/first/a/two"] == ("method=dytox", "data=digits", "memory=none", "seed=2")
    assert set(jobs) == {
        f"small/{cell}/{run}" for cell in ("first/a", "second/a", "second/b") for run in ("one", "two")
    }


def test_runs_come_in_pairs() -> None:
    """All rows of a run before the next run: an early end leaves whole pairs."""
    assert [job.run for job in parse_table("small", SMALL).jobs(columns=["a"])] == ["one", "one", "two", "two"]


def test_parts_are_chosen_by_name_and_wrong_names_told() -> None:
    table = parse_table("small", SMALL)
    assert [job.path for job in table.jobs(["second"], ["b"], ["one"])] == ["small/second/b/one"]
    for arguments, message in (
        ({"rows": ["third"]}, "rows=third is not in table small: type rows= one of first, second"),
        ({"columns": ["c"]}, "columns=c .* one of a, b"),
        ({"runs": ["three"]}, "runs=three .* one of one, two"),
    ):
        with pytest.raises(UserError, match=message):
            table.jobs(**arguments)
    with pytest.raises(UserError, match="table=cifar does not exist: type table= one of .*cifar100"):
        load_table("cifar")


def test_a_part_has_its_rows_columns_and_contrasts() -> None:
    table = parse_table("small", SMALL)
    assert table.part() == table
    second = table.part(["second"], ["b"])
    assert (list(second.rows), list(second.columns), second.contrasts) == (["second"], ["b"], {})
    assert [job.path for job in second.jobs()] == ["small/second/b/one", "small/second/b/two"]
    assert list(table.part(columns=["b"]).rows) == ["second"], "the first row has no such cell"
    assert list(table.part(columns=["a"]).contrasts) == ["c"]


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("rows", "first", "cells", "a", "band"), {"avg": [50.5, 52]}, "leaves out 50.0"),
        (("rows", "first", "cells", "a", "band"), {}, "needs a band"),
        (("rows", "first", "cells", "a", "band"), {"avg": [52, 48]}, "empty range"),
        (("rows", "first", "cells", "a", "others"), [{"avg": 40.0, "source": "x"}], "leaves out 40.0"),
        (("rows", "first", "cells", "a", "main_curve"), [50.0], "other numbers of tasks"),
        (("rows", "first", "cells"), {"z": {}}, "columns that are not there"),
        (("rows", "first", "runs"), ["three"], "runs that are not there"),
        (("rows", "first", "bands"), {}, "bands, which nothing reads"),
        (("contrasts", "c", "more"), "third", "rows that are not there"),
        (("contrasts", "c", "expected"), {"best": [0, 1]}, "none of avg"),
    ],
)
def test_a_wrong_file_is_noticed(where: tuple[str, ...], value: Any, message: str) -> None:
    def changed(node: Any, keys: tuple[str, ...]) -> Any:
        return value if not keys else {**node, keys[0]: changed(node.get(keys[0], {}), keys[1:])}

    with pytest.raises(ValueError, match=message):
        parse_table("small", changed(SMALL, where))


@pytest.mark.parametrize("name", table_names())
def test_every_shipped_table_is_whole(name: str) -> None:
    table = load_table(name)
    assert len({job.path for job in table.jobs()}) == len(table.jobs())
    for key, row in table.rows.items():
        for column, cell in row.cells.items():
            assert table.jobs([key], [column]), "a cell without a run"
            assert not cell.published or (row.protocol and row.source), f"{key} has numbers and no source"
            assert not cell.curve or cell.curve_source, key
            for metric, value in (("avg", cell.published.get("avg")), ("last", cell.published.get("last"))):
                if cell.curve and key.startswith("dkt"):  # curve and numbers are of one run
                    of_curve = sum(cell.curve) / len(cell.curve) if metric == "avg" else cell.curve[-1]
                    assert of_curve == pytest.approx(value, abs=0.006), (key, column, metric)
    for contrast in table.contrasts.values():
        assert contrast.source
        assert contrast.question.endswith("?")
        shared = set(table.rows[contrast.more].runs) & set(table.rows[contrast.less].runs)
        assert len(shared) > 1, "an interval needs pairs"


@pytest.mark.slow
@pytest.mark.parametrize("name", table_names())
def test_every_row_of_a_shipped_table_composes_to_what_it_says(name: str) -> None:
    table = load_table(name)
    for key, row in table.rows.items():
        job = table.jobs([key])[-1]
        config, _ = compose_one_of_many([f"run_dir={job.path}", *job.overrides])
        assert config.memory.budget != "total" or config.memory.size, key
        if "per_replica" in key:
            assert config.memory.scope == "per_replica"
            assert (config.batch.replicas or 1) > 1
        if row.cells[job.column].published and name == "cifar100":
            assert (config.epochs_scale, config.lr_scale) == (1, 1), "published rows are run at full length"
            assert config.trainer.precision == "32-true"


def test_published_numbers_of_the_erratum() -> None:
    """The target table of the specification, and nothing of the paper's rows with the larger memory."""
    table = load_table("cifar100")
    found = {
        key: [(cell.published.get("avg"), cell.published["last"]) for cell in table.rows[key].cells.values()]
        for key in ("dytox_global", "dytox_per_replica", "dytox_plus_per_replica", "wa")
    }
    assert found == {
        "dytox_global": [(67.33, 51.68), (67.30, 48.45), (64.39, 43.47)],
        "dytox_per_replica": [(71.50, 57.76), (68.86, 51.47), (64.82, 45.61)],
        "dytox_plus_per_replica": [(74.10, 62.34), (71.62, 57.43), (68.90, 51.09)],
        "wa": [(69.46, 53.78), (67.33, 47.31), (64.32, 42.14)],
    }
    inflated = {73.66, 72.27, 70.20, 75.54, 75.04, 74.35}
    theirs = [row for name, row in table.rows.items() if name.startswith("dytox")]
    assert not inflated & {value for row in theirs for c in row.cells.values() for value in c.published.values()}
    curve = table.rows["dytox_global"].cells["10"].curve
    assert sum(curve) / len(curve) == pytest.approx(67.6, abs=0.05)
    assert list(METRICS)[:4] == ["avg", "last", "avg5", "last5"]


def test_dkt_s_logs_have_the_main_phases_too_and_processes_stand_apart() -> None:
    cifar, imagenet = load_table("cifar100"), load_table("imagenet")
    rows = (cifar.rows["dkt"], cifar.rows["dkt_two_processes"], imagenet.rows["dkt_imagenet100"])
    assert [list(row.cells) for row in rows] == [["10"], ["5", "10", "20"], ["imagenet100"]]
    for row in rows:
        for cell in row.cells.values():
            assert cell.main_curve[0] == cell.curve[0], "the first task is not fine-tuned"
            assert cell.curve[-1] - cell.main_curve[-1] > 5


@pytest.mark.parametrize(("data", "found"), [("cifar100", True), ("image_folder", False), ("digits", False)])
def test_data_that_somebody_published_a_curve_on(data: str, found: bool) -> None:
    assert has_curve(data) == found
