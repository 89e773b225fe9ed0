"""Tables of published or expected results: the runs of each cell, and the band of its result.

A table is a YAML file beside this one, written before its runs are made. A *row* is a method under a protocol, a
*column* a setting (ten steps, twenty steps ...); together with a *run* (a class order, a seed) they name one command
line. A cell has published values and a band; a contrast is a difference of two rows, paired over the runs.

Everything is in percent or points of accuracy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import yaml

from cl_lightning.core.errors import UserError

METRICS = {
    "avg": "Avg",
    "last": "Last",
    "avg5": "Avg top-5",
    "last5": "Last top-5",
    "class_avg": "Avg, task not told",
    "class_last": "Last, task not told",
    "task_avg": "Avg, task told",
    "task_last": "Last, task told",
}
"""Name in a table -> heading: mean over tasks of the accuracy on all classes seen, and its last value. Those without a
prefix are of the method's main protocol, the others of the protocol named.
"""
USUAL = ("avg", "last")
"""Metrics of a table that names none."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Cell:
    """The published values and the band of one result, written before it is run."""

    published: Mapping[str, float] = field(default_factory=dict)
    """Metric -> value; ``std`` is the standard deviation of ``avg`` over orders, where it was given."""
    band: Mapping[str, Range] = field(default_factory=dict)
    """Metric -> range for a run of the same protocol; empty where nothing comparable was published."""
    others: tuple[Mapping[str, Any], ...] = ()
    """Further runs of the same protocol by third parties, each with its ``source``."""
    curve: tuple[float, ...] = ()
    """Published accuracy on all classes seen after each task."""
    curve_source: str = ""
    main_curve: tuple[float, ...] = ()
    """The same at the end of each main phase, before fine-tuning; of the same source."""


@dataclass(frozen=True)
class Row:
    """A method under one protocol."""

    title: str
    overrides: tuple[str, ...]
    cells: Mapping[str, Cell]
    """Column -> cell."""
    runs: tuple[str, ...]
    protocol: str = ""
    """Description of the published runs' protocol."""
    source: str = ""
    reference: Mapping[str, float] = field(default_factory=dict)
    """Published values under another protocol: stated, never compared with."""


@dataclass(frozen=True)
class Contrast:
    """A difference of two rows that is expected to lie in a range."""

    question: str
    more: str
    less: str
    expected: Mapping[str, Range]
    source: str


@dataclass(frozen=True)
class Job:
    """One run of a table."""

    table: str
    row: str
    column: str
    run: str
    overrides: tuple[str, ...]

    @property
    def path(self) -> str:
        """Path of its files, below the table's folder of runs or of stored results."""
        return f"{self.table}/{self.row}/{self.column}/{self.run}"


@dataclass(frozen=True)
class Table:
    """A table of results and of the commands for them."""

    name: str
    title: str
    about: str
    columns: Mapping[str, str]
    """Column -> title."""
    rows: Mapping[str, Row]
    contrasts: Mapping[str, Contrast]
    no_target: tuple[tuple[str, str], ...]
    """(published value, reason) pairs that must not be compared with."""
    metrics: tuple[str, ...]
    """Metrics that every cell shows; those of bands are shown beside them."""
    reference: str
    """Source of the cells' values that are not published ones: an earlier version of this project."""
    variations: Mapping[str, tuple[str, ...]]
    """Run -> its overrides: a class order, a seed."""
    _overrides: tuple[str, ...]
    _column_overrides: Mapping[str, tuple[str, ...]]

    def jobs(self, rows: Collection[str] = (), columns: Collection[str] = (), runs: Collection[str] = ()) -> list[Job]:
        """Return the runs of the rows, columns and runs named (empty: all); one run of each row before the next run,
        so that an early end leaves pairs.

        Raises:
            UserError: a name that the table does not have.
        """
        for option, given, known in (
            ("rows", rows, self.rows),
            ("columns", columns, self.columns),
            ("runs", runs, self.variations),
        ):
            for name in given:
                if name not in known:
                    allowed = ", ".join(known)
                    raise UserError(f"{option}={name} is not in table {self.name}: type {option}= one of {allowed}")
        return [
            Job(self.name, name, column, run, self._command(row, column, run))
            for column in self.columns
            for run in self.variations
            for name, row in self.rows.items()
            if column in row.cells
            and run in row.runs
            and all(not given or one in given for one, given in ((name, rows), (column, columns), (run, runs)))
        ]

    def part(self, rows: Collection[str] = (), columns: Collection[str] = ()) -> Table:
        """Return the table with the rows and columns named alone (empty: all), and the contrasts between them.

        Its runs are all those of the table: part of them verifies no cell.
        """
        wanted = {name: title for name, title in self.columns.items() if not columns or name in columns}
        left = {
            name: dataclasses.replace(row, cells={key: row.cells[key] for key in row.cells if key in wanted})
            for name, row in self.rows.items()
            if not rows or name in rows
        }
        kept = {name: row for name, row in left.items() if row.cells}
        contrasts = {name: c for name, c in self.contrasts.items() if c.more in kept and c.less in kept}
        return dataclasses.replace(self, columns=wanted, rows=kept, contrasts=contrasts)

    def settings(self, column: str) -> tuple[str, ...]:
        """Return the overrides that all rows of a column share."""
        return (*self._overrides, *self._column_overrides[column])

    def _command(self, row: Row, column: str, run: str) -> tuple[str, ...]:
        return (*self.settings(column), *row.overrides, *self.variations[run])


def has_curve(data: str) -> bool:
    """Return whether a table has a published curve on this data set, cut into tasks in any way."""
    return any(
        override.startswith(f"data={data}")
        for table in map(load_table, table_names())
        for job in table.jobs()
        if table.rows[job.row].cells[job.column].curve
        for override in job.overrides
    )


def table_names() -> list[str]:
    """Return the names of all tables."""
    folder = files("cl_lightning.published") / "tables"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def load_table(name: str) -> Table:
    """Load a table by its name. Raises ValueError for an unknown name, and for a file that is wrong."""
    if name not in table_names():
        raise UserError(f"table={name} does not exist: type table= one of {', '.join(table_names())}")
    text = (files("cl_lightning.published") / "tables" / f"{name}.yaml").read_text(encoding="utf-8")
    return parse_table(name, yaml.safe_load(text))


def parse_table(name: str, content: Mapping[str, Any]) -> Table:
    """Build a table from its file's content."""
    _known(name, content, "title about reference metrics overrides columns runs rows contrasts no_target")
    metrics = tuple(content.get("metrics", USUAL))
    _check(set(metrics) <= set(METRICS), f"{name} shows metrics that are none of {', '.join(METRICS)}")
    columns, runs = content["columns"], {key: tuple(value) for key, value in content["runs"].items()}
    rows = {key: _row(f"{name}.{key}", row, tuple(columns), tuple(runs)) for key, row in content["rows"].items()}
    contrasts = {}
    for key, contrast in content.get("contrasts", {}).items():
        _known(f"{name}.{key}", contrast, "question more less expected source")
        _check({contrast["more"], contrast["less"]} <= set(rows), f"{name}.{key} contrasts rows that are not there")
        contrasts[key] = Contrast(**{**contrast, "expected": _ranges(f"{name}.{key}", contrast["expected"])})
    return Table(
        name=name,
        title=content["title"],
        about=" ".join(content["about"].split()),
        columns={key: column["title"] for key, column in columns.items()},
        rows=rows,
        contrasts=contrasts,
        no_target=tuple((entry["what"], entry["why"]) for entry in content.get("no_target", [])),
        metrics=metrics,
        reference=content.get("reference", ""),
        _overrides=tuple(content["overrides"]),
        _column_overrides={key: tuple(column["overrides"]) for key, column in columns.items()},
        variations=runs,
    )


def _row(where: str, row: Mapping[str, Any], columns: tuple[str, ...], runs: tuple[str, ...]) -> Row:
    _known(where, row, "title overrides cells runs protocol source reference")
    cells = row.get("cells", {column: {} for column in columns})
    _check(set(cells) <= set(columns), f"{where} has cells in columns that are not there")
    chosen = tuple(row.get("runs", runs))
    _check(set(chosen) <= set(runs), f"{where} has runs that are not there")
    return Row(
        title=row["title"],
        overrides=tuple(row["overrides"]),
        cells={column: _cell(f"{where}.{column}", cell) for column, cell in cells.items()},
        runs=chosen,
        protocol=row.get("protocol", ""),
        source=row.get("source", ""),
        reference=row.get("reference", {}),
    )


def _cell(where: str, cell: Mapping[str, Any]) -> Cell:
    _known(where, cell, "published band others curve curve_source main_curve")
    published, band = cell.get("published", {}), _ranges(where, cell.get("band", {}))
    _check(set(published) - {"std"} == set(band), f"{where} needs a band for each published value, and no other")
    for source in (published, *cell.get("others", [])):
        for metric in set(source) & set(band):
            low, high = band[metric]
            _check(low <= source[metric] <= high, f"{where}: the band of {metric} leaves out {source[metric]}")
    curve, of_main = (tuple(cell.get(name, ())) for name in ("curve", "main_curve"))
    _check(not of_main or len(of_main) == len(curve), f"{where}: main_curve and curve are of other numbers of tasks")
    return Cell(published, band, tuple(cell.get("others", ())), curve, cell.get("curve_source", ""), of_main)


def _ranges(where: str, given: Mapping[str, Sequence[float]]) -> dict[str, Range]:
    _check(set(given) <= set(METRICS), f"{where} has a range for none of {', '.join(METRICS)}")
    ranges = {metric: (float(low), float(high)) for metric, (low, high) in given.items()}
    _check(all(low < high for low, high in ranges.values()), f"{where} has an empty range")
    return ranges


def _known(where: str, given: Mapping[str, Any], allowed: str) -> None:
    unknown = set(given) - set(allowed.split())
    _check(not unknown, f"{where} has {', '.join(sorted(unknown))}, which nothing reads")


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
