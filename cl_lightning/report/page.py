"""The page ``report.html``: one file that opens anywhere, offline, light or dark, on a phone and on paper.

What is on it is put together here; how it looks is in ``template/``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from cl_lightning.core.printable import printable
from cl_lightning.report import pictures, sections, tables
from cl_lightning.report.costs import cost_texts
from cl_lightning.report.data import ReportInput
from cl_lightning.report.heading import Fact, Tile, facts, status, subtitle, tiles, title
from cl_lightning.report.numbers import class_names
from cl_lightning.report.sections import Section
from cl_lightning.report.tables import Table
from cl_lightning.report.words import counted, shortened

_TEMPLATE = Path(__file__).with_name("template")
_FEW_COLUMNS, _MORE_COLUMNS, _FEW_ROWS = 8, 16, 14
"""Largest numbers of columns of a table that fits into one column of the page, and into two; and of rows that are not
scrolled.
"""
_STRIPS_UNSCROLLED = 18
"""Largest number of classes whose exemplars are not scrolled."""


@dataclass(frozen=True)
class Card:
    """A part of the page: a figure, tables, or the pictures of the memory."""

    name: str
    title: str
    caption: str = ""
    figure: Markup = Markup()  # noqa: RUF009 (it cannot be changed)
    tables: Sequence[Table] = ()
    strips: Sequence[Strip] = ()
    size: str = ""
    """Columns of the page that it takes: "", "two", "half" of them or "all"."""
    tall: bool = False
    """Scrolled within, as there is much in it."""


@dataclass(frozen=True)
class Strip:
    """Exemplars of a class, side by side."""

    name: str
    count: int
    source: str

    @property
    def short(self) -> str:
        """The name as far as there is room for it."""
        return shortened(self.name, 28)


@dataclass(frozen=True)
class Group:
    """Cards under a heading of the page."""

    name: str
    title: str
    cards: Sequence[Card]


@dataclass(frozen=True)
class Page:
    """All that the template is given."""

    title: str
    subtitle: str
    status: str
    notes: Sequence[str]
    tiles: Sequence[Tile]
    curve: Card | None
    facts: Sequence[Fact]
    groups: Sequence[Group]


def page(run: ReportInput, drawn: Mapping[str, str]) -> str:
    """Return the page's HTML; ``drawn`` has the figures (SVG) by section."""
    shown = Page(
        title(run),
        subtitle(run),
        status(run),
        run.results.get("notes", []),
        tiles(run),
        _figure(sections.ACCURACY, run, drawn),
        facts(run),
        [group for group in _groups(run, drawn) if group.cards],
    )
    return _environment().get_template("page.html.jinja").render(page=shown)


def _groups(run: ReportInput, drawn: Mapping[str, str]) -> Sequence[Group]:
    """Return the groups of the page in their order. A card of its own (costs, say) is one line here."""

    def figure(section: Section) -> Card | None:
        return _figure(section, run, drawn)

    return [
        _group(
            "tasks_and_forgetting",
            "Task after task",
            figure(sections.MATRIX) if len(run.results["tasks"]) > 1 else None,
            figure(sections.TASKS),
            figure(sections.FORGETTING),
            *_numbers(run, figure(sections.PHASES)),
        ),
        _group(
            "answers",
            "What is taken for what",
            figure(sections.CONFUSION),
            figure(sections.CALIBRATION),
            _card(
                "classes",
                "Classes most often confused",
                "Test images after the last task, and the share of the class that they are.",
                tables.confused_classes(run),
            ),
            _card(
                "each_class",
                "Each class",
                f"In the order in which they were learnt. {tables.hardest(run)}",
                tables.classes(run),
                size="all",
            ),
        ),
        _group("network", "Network and memory", figure(sections.TOKENS), _memory(run), figure(sections.ATTENTION)),
        _group(
            "training", "Training", figure(sections.LOSSES), figure(sections.RATE), figure(sections.SPEED), _costs(run)
        ),
        _group("data", "Data", _images(run), _left_out(run)),
        _group(
            "settings",
            "Settings",
            _settings("protocol", "Protocol", run.results["protocol"]),
            _settings("provenance", "Provenance", run.results["provenance"], apart=("tasks", "phases")),
        ),
    ]


def _numbers(run: ReportInput, phases: Card | None) -> Sequence[Card | None]:
    """Return the numbers of the curves: with the figure of phases, in rows that are full."""
    columns = len(run.results["tasks"]) + 2
    size, other = ("two", "all") if columns <= _MORE_COLUMNS else ("all", "two")
    if columns <= _FEW_COLUMNS:
        size, other = "", ""
    caption = "Accuracy in % after task (row) on the test images of task (column)."
    matrix = _card("numbers", "The numbers", caption, tables.accuracies(run), "all" if phases is None else size)
    caption = "Accuracy in % on all classes learnt so far, after phase or task (column) and by read-out."
    return matrix, phases, _card("phase_numbers", "After each phase, the numbers", caption, tables.phases(run), other)


def _group(name: str, heading: str, *cards: Card | None) -> Group:
    return Group(name, heading, [card for card in cards if card is not None])


def _figure(section: Section, run: ReportInput, drawn: Mapping[str, str]) -> Card | None:
    if section.name not in drawn:
        return None
    label = str(escape(section.title))
    narrow = drawn.get(f"{section.name}_narrow")
    smallest = {} if narrow is None else {"smallest": 0.0}
    svg = pictures.inline_svg(drawn[section.name], section.name, label, **smallest)
    if narrow is not None:
        small = pictures.inline_svg(narrow, f"{section.name}_narrow", label)
        svg = f'<div class="wide">{svg}</div><div class="narrow">{small}</div>'
    columns = "all" if section is sections.ATTENTION else ""
    return Card(section.name, section.title, section.caption(run), Markup(svg), size=columns)


def _card(name: str, heading: str, caption: str, table: Table | None, size: str = "") -> Card | None:
    """Return the card of a table, as wide as its columns need; None without a table."""
    if table is None:
        return None
    wide = len(table.columns)
    size = size or ("" if wide <= _FEW_COLUMNS else "two" if wide <= _MORE_COLUMNS else "all")
    return Card(name, heading, caption, tables=[table], size=size, tall=len(table.rows) > _FEW_ROWS)


def _costs(run: ReportInput) -> Card:
    return Card("costs", "Costs", tables=[tables.settings(cost_texts(run.results))])


def _settings(name: str, heading: str, values: Mapping[str, Any], apart: Sequence[str] = ()) -> Card:
    return Card(name, heading, tables=[tables.settings(values, apart)], size="half")


def _images(run: ReportInput) -> Card | None:
    found = [table for table in (tables.images(run), tables.equal_images(run)) if table is not None]
    caption = "Two runs with the same identity of a part had the same images in it, by content and order."
    return Card("images", "Images", caption, tables=found, size="all") if found else None


def _left_out(run: ReportInput) -> Card | None:
    heading = "Left out of the data folder"
    table = tables.left_out(run)
    if table is None and run.results.get("left_out") is not None:
        return Card("left_out", heading, "Nothing: every file in it is an image that could be used.")
    return _card("left_out", heading, "", table, size="all")


def _memory(run: ReportInput) -> Card | None:
    exemplars, counts = run.data.exemplars, run.data.exemplar_counts
    if not exemplars:
        return None
    names = class_names(run)
    strips = [Strip(names[label], counts[label], pictures.strip(found)) for label, found in sorted(exemplars.items())]
    few = "" if len(strips) == len(counts) else f" The newest {len(strips):,} classes are shown."
    caption = (
        f"{counted(sum(counts.values()), 'image')} of {counted(len(counts), 'class', 'classes')}; the first of each "
        f"class, in order of herding.{few}"
    )
    size = "all" if run.data.tokens is None or len(run.data.tokens) < 2 else "two"
    return Card("memory", "Memory", caption, strips=strips, size=size, tall=len(strips) > _STRIPS_UNSCROLLED)


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATE),
        autoescape=True,
        finalize=_safe,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _safe(value: Any) -> Any:
    """Return what a text from elsewhere is shown as: characters that change the writing direction become escapes."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
