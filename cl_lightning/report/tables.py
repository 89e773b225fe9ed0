"""The tables of the page, as plain texts: the page's template decides how they look."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cl_lightning.core.types import Plain
from cl_lightning.report.data import ReportInput
from cl_lightning.report.numbers import after_phases, class_accuracy, class_names, main_curve, main_matrix
from cl_lightning.report.words import hyphenated, number, plain, shortened

_NAME = 36
"""Largest number of characters of a class's name in a table."""


@dataclass(frozen=True)
class Column:
    """A column: ``head`` names its row, ``name`` does so in words, ``text`` is left-aligned, ``number`` right-aligned,
    ``main`` a number in bold, ``bar`` a number in % with a bar.
    """

    title: str
    kind: Literal["head", "name", "text", "number", "main", "bar"] = "number"
    most: int = 1_000_000
    """Largest number of characters that are shown; a reader who points at a text sees all of it."""


@dataclass(frozen=True)
class Table:
    """Columns and rows of texts; an empty text is an empty cell."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    title: str = ""

    @property
    def headed(self) -> bool:
        """True if any column has a title."""
        return any(column.title for column in self.columns)


def accuracies(run: ReportInput) -> Table:
    """Return the accuracy in % after task (row) on task (column), and on all classes seen."""
    R = main_matrix(run)
    columns = [Column("after", "head"), *(Column(str(task + 1)) for task in range(len(R))), Column("all seen", "main")]
    rows = [
        [str(after + 1), *map(number, row), *[""] * (len(R) - len(row)), number(seen)]
        for after, (row, seen) in enumerate(zip(R, main_curve(run), strict=True))
    ]
    return Table(columns, rows)


def phases(run: ReportInput) -> Table | None:
    """Return the accuracy in % on all classes seen after phases and tasks (columns)."""
    curves = after_phases(run)
    if not curves:
        return None
    columns = [Column("task", "head"), *map(Column, curves)]
    rows = [[str(task + 1), *map(number, values)] for task, values in enumerate(zip(*curves.values(), strict=True))]
    return Table(columns, rows)


def confused_classes(run: ReportInput, most: int = 12) -> Table | None:
    """Return the pairs of classes that are most often confused after the last task."""
    counts = run.data.confusion
    if counts is None:
        return None
    names = class_names(run)
    apart = counts - np.diag(np.diag(counts))
    order = np.argsort(apart, axis=None, kind="stable")[::-1][:most]
    pairs = [divmod(int(at), len(counts)) for at in order]
    rows = [
        [names[i], names[j], str(apart[i, j]), f"{100 * apart[i, j] / max(1, counts[i].sum()):.1f}"]
        for i, j in pairs
        if apart[i, j]
    ]
    columns = [Column("images of", "text", _NAME), Column("taken for", "text", _NAME), Column("images"), Column("%")]
    return Table(columns, rows) if rows else None


def classes(run: ReportInput) -> Table:
    """Return a row for each class: its task, its images, and what became of them. Columns of which nothing is known
    are left out.
    """
    names = class_names(run)
    task_of = [task["index"] + 1 for task in run.results["tasks"] for _ in task["names"]]
    columns = [Column("class", "name", _NAME), Column("task")]
    cells: list[Sequence[str]] = [names, [str(task) for task in task_of]]
    for part, images in run.results.get("images", {}).items():
        columns.append(Column(f"{part} images"))
        cells.append([_count(images.get(name)) for name in names])
    if run.data.exemplar_counts:
        columns.append(Column("exemplars"))
        cells.append([f"{run.data.exemplar_counts.get(label, 0):,}" for label in range(len(names))])
    right = class_accuracy(run)
    if right is not None and run.data.confusion is not None:
        columns += [Column("right in %", "bar"), Column("else most often taken for", "text", _NAME + 9)]
        cells += [[number(value) for value in right], _taken_for(run.data.confusion, names)]
    return Table(columns, list(zip(*cells, strict=True)))


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else "n/a"


def _taken_for(counts: np.ndarray, names: Sequence[str]) -> list[str]:
    apart = counts - np.diag(np.diag(counts))
    likeliest = apart.argmax(axis=1)
    return [
        f"{shortened(names[other], _NAME)} ({100 * apart[label, other] / counts[label].sum():.1f} %)"
        if apart[label, other]
        else ""
        for label, other in enumerate(likeliest)
    ]


def images(run: ReportInput) -> Table | None:
    """Return the numbers of images of each part, and the identity of their content; None in runs that recorded none."""
    if "images" not in run.results:
        return None
    identities = run.results.get("data_identity", {})
    rows = []
    for part, counts in run.results["images"].items():
        known = {name: count for name, count in counts.items() if count is not None}
        numbers = [f"{sum(known.values()):,}", f"{len(known):,}", *_extremes(known)] if known else ["n/a"] * 4
        rows.append([part, *numbers, identities.get(part) or "not known"])
    columns = [Column("part", "name"), Column("images"), Column("classes")]
    columns += [Column(title, "text") for title in ("fewest a class", "most a class", "identity of the content")]
    return Table(columns, rows)


def _extremes(counts: Mapping[str, int]) -> list[str]:
    """Return the smallest and the largest number of images of a class, each with the class."""
    few, many = (end(counts, key=lambda name: counts[name]) for end in (min, max))
    if counts[few] == counts[many]:
        return [f"{counts[few]:,} (every class)"] * 2
    return [f"{counts[name]:,} ({shortened(name, _NAME)})" for name in (few, many)]


def equal_images(run: ReportInput) -> Table | None:
    """Return how many images are equal to another one, byte for byte; None in runs that recorded none."""
    found = run.results.get("equal_images")
    if not found:
        return None
    rows = [
        [
            hyphenated(name).replace("-", " "),
            f"{equal['images']:,}",
            ", ".join(" is ".join(pair) for pair in equal["examples"]),
        ]
        for name, equal in found.items()
    ]
    columns = [Column("in", "name"), Column("images"), Column("for example", "text")]
    return Table(columns, rows, "Equal images, byte for byte")


def left_out(run: ReportInput) -> Table | None:
    """Return the files in the data folder that are no images; None where no folder was searched, or nothing found."""
    kinds = run.results.get("left_out")
    if not kinds:
        return None
    columns = [Column("number"), Column("of", "text"), Column("for example", "text")]
    return Table(columns, [[str(each["count"]), each["kind"], each["example"]] for each in kinds])


def settings(values: Mapping[str, Plain], apart: Sequence[str] = ()) -> Table:
    """Return names and values of a protocol, or of what a run was made with, but those ``apart``."""
    rows = [[name, plain(value)] for name, value in values.items() if name not in apart]
    return Table([Column("", "name"), Column("", "text")], rows)


def hardest(run: ReportInput) -> str:
    """Return a sentence on the classes that are recognised best and worst after the last task; empty if not known."""
    right = [(value, label) for label, value in enumerate(class_accuracy(run) or []) if not math.isnan(value)]
    if len(right) < 2:
        return ""
    names = class_names(run)
    (low, worst), (high, best) = min(right), max(right)
    return f"Best: {shortened(names[best])} ({high:.1f} %). Worst: {shortened(names[worst])} ({low:.1f} %)."
