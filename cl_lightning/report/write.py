"""The writer of a run's report: its page and figures, from its files."""

from __future__ import annotations

from pathlib import Path

from cl_lightning.core.atomic_write import make_folder, replace_file, write_atomic
from cl_lightning.report.data import FOLDER, ReportInput, read_report_input
from cl_lightning.report.page import page
from cl_lightning.report.pictures import to_png, to_svg
from cl_lightning.report.sections import SECTIONS


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` and, in ``report/``, each figure as SVG and PNG; returns the page's path.

    Raises:
        ValueError: there is no run that has finished a task.
    """
    run = read_report_input(run_dir)
    folder = run_dir / FOLDER
    make_folder(folder)
    path = run_dir / "report.html"
    write_atomic(path, page(run, _draw(run, folder)))
    return path


def _draw(run: ReportInput, folder: Path) -> dict[str, str]:
    """Write each figure that the run has into the folder; return those of the page as SVG, by name."""
    drawn: dict[str, str] = {}
    for section in SECTIONS:
        figure = section.draw(run)
        if figure is None:
            continue
        drawn[section.name] = svg = to_svg(figure)
        png = to_png(figure)
        write_atomic(folder / f"{section.name}.svg", svg)
        replace_file(folder / f"{section.name}.png", lambda file, png=png: file.write(png))  # type: ignore[misc]
        narrow = None if section.narrow is None else section.narrow(run)
        if narrow is not None:
            drawn[f"{section.name}_narrow"] = to_svg(narrow)
    return drawn
