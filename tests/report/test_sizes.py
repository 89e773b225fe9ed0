"""Pages of any number of tasks and classes: nothing sticks out, text can be read, no key lies on a curve."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from cl_lightning.report import training_figures
from cl_lightning.report.data import ReportInput, read_report_input
from cl_lightning.report.drawing import in_style
from cl_lightning.report.sections import SECTIONS
from cl_lightning.report.write import write_report
from tests.report.browser import CHROMIUM, measure
from tests.report.gallery import CASES, Case, write_case

pytestmark = pytest.mark.slow

WIDTHS = (360, 400, 800, 1400)
FEW = (Case(1, 10), Case(2, 10, more=True), Case(5, 10), Case(100, 100))
SHOWN_AT = 0.8
"""Smallest part of its width at which a figure is shown: on a phone of 360 px."""


def figures(run: ReportInput) -> Iterator[tuple[str, Figure]]:
    for section in SECTIONS:
        for draw in (section.draw, section.narrow):
            figure = draw(run) if draw is not None else None
            if figure is not None:
                yield section.name, figure


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case in FEW else pytest.mark.long, id=case.name) for case in CASES],
)
def test_figures_can_be_read_and_nothing_lies_on_a_curve(case: Case, tmp_path: Path) -> None:
    with in_style():
        for name, figure in figures(read_report_input(write_case(tmp_path, case))):
            check(name, figure)


def check(name: str, figure: Figure) -> None:
    frame = figure.bbox.padded(2)
    for axes in figure.axes:
        assert axes.get_legend() is None, f"{name}: the key lies within the axes"
        room = axes.get_window_extent()
        for key in figure.legends:
            box = key.get_window_extent()
            assert not (box.overlaps(room) and box.y0 < room.y1 - 1), f"{name}: the key lies on the axes"
            assert box.x1 <= frame.x1, f"{name}: the key is wider than the figure"
        for text in [*axes.texts, axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), axes.title]:
            assert SHOWN_AT * text.get_fontsize() * 96 / 72 >= 9, f"{name}: {text.get_text()} is too small"
        tight = axes.get_tightbbox()
        assert tight is not None
        assert frame.x0 <= tight.x0, f"{name}: cut at the left"
        assert tight.x1 <= frame.x1, f"{name}: cut at the right"


def test_with_two_tasks_forgetting_is_a_bar_and_not_a_wall(tmp_path: Path) -> None:
    run = read_report_input(write_case(tmp_path, Case(2, 10)))
    (axes,) = dict(figures(run))["forgetting"].axes
    low, high = axes.get_xlim()
    (bar,) = axes.patches
    assert bar.get_width() <= (high - low) / 5  # type: ignore[attr-defined]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["2"], "no task is invented"


@pytest.mark.parametrize("decades", [0.2, 1, 4])
def test_an_axis_of_losses_has_plain_numbers(decades: float, tmp_path: Path) -> None:
    run = read_report_input(write_case(tmp_path, Case(1, 10)))
    curves = tuple({"step": float(k), "loss/classification": 0.8 * 10 ** (-decades * k / 20)} for k in range(21))
    figure = training_figures.losses(dataclasses.replace(run, curves=curves))
    assert figure is not None
    with in_style():
        figure.draw_without_rendering()
        axis = figure.axes[0].yaxis
        low, high = axis.get_view_interval()
        ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        shown = [tick.label1.get_text() for tick in ticks if low <= tick.get_loc() <= high and tick.label1.get_text()]
    assert 2 <= len(shown) <= 12
    assert all(low <= float(text) <= high for text in shown)


def test_a_run_of_one_task_has_no_forgetting(tmp_path: Path) -> None:
    page = write_report(write_case(tmp_path, Case(1, 10))).read_text(encoding="utf-8")
    assert 'id="accuracy"' in page
    assert 'id="forgetting"' not in page
    assert 'id="matrix"' not in page, "one number is no picture"
    assert "1 task of 10 classes" in page


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: how pages look at several widths was not tried")
@pytest.mark.parametrize(
    "case",
    [
        Case(2, 10, more=True),
        pytest.param(Case(1, 10), marks=pytest.mark.long),
        pytest.param(Case(20, 100, more=True), marks=pytest.mark.long),
    ],
    ids=lambda case: case.name,
)
def test_nothing_sticks_out_at_any_width(case: Case, tmp_path: Path) -> None:
    """Names of 260 characters among them; tables and wide figures are scrolled within their cards."""
    page = write_report(write_case(tmp_path / "run", case)).read_text(encoding="utf-8")
    found = measure([page], WIDTHS, tmp_path)
    assert [each["width"] for each in found] == list(WIDTHS)
    for each in found:
        assert each["page_width"] == each["width"]
        for kind in ("out", "cut", "outside"):
            assert each[kind] == [], f"at {each['width']} px"
        assert each["smallest"] >= 9
        assert each["small_html"] == 0
