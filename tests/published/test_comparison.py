"""The comparison: every system has its published numbers, and what was run is never more than what was."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from cl_lightning.published import comparison as module
from cl_lightning.published.comparison import COMPARED_TABLES, System, comparison, systems
from cl_lightning.published.stored_results import StoredRun
from cl_lightning.published.tables import Job, Table, load_table, parse_table


def tables() -> dict[str, Table]:
    return {name: load_table(name) for name in COMPARED_TABLES}


def small(name: str, columns: tuple[str, ...], cells: Mapping[str, Any]) -> Table:
    return parse_table(
        name,
        {
            "title": "t",
            "about": "a",
            "overrides": [],
            "columns": {column: {"title": column, "overrides": []} for column in columns},
            "runs": {"one": [], "two": []},
            "rows": {"wa": {"title": "b", "overrides": [], "cells": cells}},
        },
    )


CELL = {"published": {"avg": 60.0, "last": 50.0}, "band": {"avg": [58, 62], "last": [48, 52]}}
TABLES = {
    "cifar100": small("cifar100", ("10", "20", "50", "joint"), {"10": CELL, "20": CELL}),
    "imagenet": small("imagenet", ("imagenet100",), {"imagenet100": CELL}),
    "digits_methods": small("digits_methods", ("5",), {"5": {}}),
}


def run(*curve: float) -> StoredRun:
    return StoredRun({}, curve, curve, len(curve), {"provenance": {}, "protocol": {}})


def line(monkeypatch: pytest.MonkeyPatch, found: Mapping[Job, StoredRun]) -> dict[str, str]:
    system = System("WA", {"cifar100": "wa", "imagenet": "wa", "digits_methods": "wa"})
    monkeypatch.setattr(module, "systems", lambda: [system])
    grid = comparison(TABLES, found, lambda run, job: [], lambda job: f"origin of {job.table}")
    assert len(grid.lines) == 1
    return dict(zip(grid.heads, grid.lines[0], strict=True))


def test_every_row_exists_and_has_published_numbers() -> None:
    known = tables()
    for system in systems():
        assert set(system.rows) <= set(known), system.title
        for table, row in system.rows.items():
            assert row in known[table].rows, f"{system.title}: {row}"
            held = known[table].rows[row]
            published = held.reference or any(cell.published for cell in held.cells.values())
            assert table == "digits_methods" or published


def test_nothing_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert line(monkeypatch, {}) == {
        "system": "WA",
        "origin": "origin of cifar100",
        "CIFAR-100, 10 steps": "60.00 / 50.00",
        "20 steps": "60.00 / 50.00",
        "50 steps": "",
        "ImageNet-100, top-5": "",
        "ImageNet-1000, top-5": "",
        "ours at full length": "not run",
        "ours on digits": "not run",
    }


def test_ours_stand_beside_the_published_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    ten = dict(zip(TABLES["cifar100"].jobs([], ["10"]), (run(70, 49), run(71, 51)), strict=True))
    twenty = {TABLES["cifar100"].jobs([], ["20"])[0]: run(70, 49)}
    digits = dict(zip(TABLES["digits_methods"].jobs(), (run(98, 96), run(100, 98)), strict=True))
    told = line(monkeypatch, {**ten, **twenty, **digits})
    assert told["CIFAR-100, 10 steps"] == "60.00 / 50.00; ours 60.25 ± 1.06 / 50.00 ± 1.41"
    assert told["20 steps"] == "60.00 / 50.00; ours 59.50 / 49.00"
    assert told["ours at full length"] == "1 verified, 1 partial, 1 not run"
    assert told["ours on digits"] == "98.0 ± 1.4 / 97.0 ± 1.4"


def test_what_is_never_compared_with_stands_in_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    row = dataclasses.replace(TABLES["imagenet"].rows["wa"], reference={"avg5": 85.62, "last5": 80.76})
    monkeypatch.setitem(TABLES, "imagenet", dataclasses.replace(TABLES["imagenet"], rows={"wa": row}))
    assert line(monkeypatch, {})["ImageNet-100, top-5"] == "(85.62 / 80.76)"


def test_another_metric_is_no_published_number_of_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    imagenet = dict(zip(TABLES["imagenet"].jobs(), (run(70, 49), run(71, 51)), strict=True))
    assert line(monkeypatch, imagenet)["ImageNet-100, top-5"] == ""
