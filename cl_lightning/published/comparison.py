"""The comparison: every system of DyTox's tables with its published numbers, ours, its label, and what was run.

It is read out of the tables of results: ``systems.yaml`` says in which of their rows a system stands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files

import yaml

from cl_lightning.metrics.spread import Spread
from cl_lightning.published.stored_results import StoredRun
from cl_lightning.published.tables import Cell, Job, Row, Table
from cl_lightning.published.verdict import CellVerdict, Differ, Status, judge_cell
from cl_lightning.report.layout import Grid

SMALL = "digits_methods"
"""The table that shows what was run of every system."""
COMPARED_TABLES = ("cifar100", "imagenet", SMALL)


@dataclass(frozen=True)
class _Column:
    """A column of published numbers."""

    head: str
    table: str
    cells: tuple[str, ...]
    """Columns of the table that stand here: a system has one of them."""
    metrics: tuple[str, str]


_COLUMNS = (
    _Column("CIFAR-100, 10 steps", "cifar100", ("10", "joint"), ("avg", "last")),
    _Column("20 steps", "cifar100", ("20",), ("avg", "last")),
    _Column("50 steps", "cifar100", ("50",), ("avg", "last")),
    _Column("ImageNet-100, top-5", "imagenet", ("imagenet100", "joint100"), ("avg5", "last5")),
    _Column("ImageNet-1000, top-5", "imagenet", ("imagenet1000", "joint1000"), ("avg5", "last5")),
)


@dataclass(frozen=True)
class System:
    """A system and the rows in which it stands."""

    title: str
    rows: Mapping[str, str]
    """Table -> its row."""


def systems() -> list[System]:
    """Load ``systems.yaml``."""
    text = (files("cl_lightning.published") / "systems.yaml").read_text(encoding="utf-8")
    return [System(entry.pop("title"), entry) for entry in yaml.safe_load(text)]


def comparison(
    tables: Mapping[str, Table], found: Mapping[Job, StoredRun], differ: Differ, origin: Callable[[Job], str]
) -> Grid:
    """Return the comparison: a line a system.

    Args:
        tables: those that ``systems.yaml`` names, by name.
        found: stored runs of all of them.
        differ: names the settings in which a stored run deviates from its job.
        origin: returns the label of what a job's method is.
    """
    heads = ["system", "origin", *(column.head for column in _COLUMNS), "ours at full length", "ours on digits"]
    return Grid(heads, [_line(system, tables, found, differ, origin) for system in systems()])


def _line(
    system: System,
    tables: Mapping[str, Table],
    found: Mapping[Job, StoredRun],
    differ: Differ,
    origin: Callable[[Job], str],
) -> list[str]:
    labels = [origin(tables[table].jobs([row])[0]) for table, row in system.rows.items() if table != SMALL]
    line = [system.title, labels[0]]
    statuses: Counter[Status] = Counter()
    for column in _COLUMNS:
        table, row = tables[column.table], system.rows.get(column.table)
        cells = table.rows[row].cells if row else {}
        name = next((name for name in column.cells if name in cells), None)
        if row is None or name is None:
            line.append("")
            continue
        verdict = judge_cell(table, row, name, found, differ)
        statuses[verdict.status] += 1
        published = _published(cells[name], table.rows[row], column.metrics)
        line.append("; ours ".join(filter(None, (published, _ours(verdict, column)))))
    return [*line, _run(statuses), _small(system, tables[SMALL], found, differ)]


def _published(cell: Cell, row: Row, metrics: tuple[str, str]) -> str:
    """Return the published values of a cell; in brackets those that are stated and never compared with."""
    for values, brackets in ((cell.published, "{}"), (row.reference, "({})")):
        if set(metrics) & set(values):
            return brackets.format(" / ".join(f"{values[key]:.2f}" if key in values else "?" for key in metrics))
    return ""


def _ours(verdict: CellVerdict, column: _Column) -> str:
    if not set(column.metrics) & set(verdict.ours):
        return ""
    return " / ".join(_spread(verdict.ours.get(metric)) for metric in column.metrics)


def _run(statuses: Mapping[Status, int]) -> str:
    if set(statuses) <= {Status.NOT_RUN}:
        return str(Status.NOT_RUN)
    return ", ".join(f"{count} {status}" for status, count in statuses.items())


def _small(system: System, table: Table, found: Mapping[Job, StoredRun], differ: Differ) -> str:
    row = system.rows.get(SMALL)
    if row is None:
        return ""
    (column,) = table.rows[row].cells
    ours = judge_cell(table, row, column, found, differ).ours
    return " / ".join(_spread(ours[metric], 1) for metric in table.metrics) if ours else str(Status.NOT_RUN)


def _spread(value: Spread | None, digits: int = 2) -> str:
    if value is None:
        return "?"
    return f"{value.mean:.{digits}f}" + ("" if value.std is None else f" ± {value.std:.{digits}f}")
