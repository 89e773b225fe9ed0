"""The report's tables and pictures for a dashboard, as the run goes on."""

from __future__ import annotations

from collections.abc import Sequence

from cl_lightning.core.printable import printable
from cl_lightning.report import figures
from cl_lightning.report.data import ReportInput
from cl_lightning.report.figures import main_matrix, percent
from cl_lightning.report.panels import Panels, Picture, Table
from cl_lightning.report.pictures import strip_png, to_png

_MOST_CLASSES = 100
"""Exemplars are sent of so many classes at most: the newest."""


def panels(shown: ReportInput) -> Panels:
    """Of the tasks done so far."""
    rows = [(i + 1, j + 1, value) for i, row in enumerate(main_matrix(shown)) for j, value in enumerate(row)]
    tables: dict[str, Table] = {"accuracy": (("after task", "on task", "accuracy in %"), rows)}
    if "phase_accuracy" in shown.results:
        tables["accuracy_after_phases"] = (("task", "phase", "read-out", "accuracy in %"), _after_phases(shown))
    drawn = {
        "accuracy_matrix": figures.matrix(shown),
        "accuracy_after_phases": figures.phases(shown),
        "tasks": figures.tasks_over_time(shown),
        "confusion_of_tasks": figures.confusion(shown),
        "calibration": figures.calibration(shown),
    }
    pictures: dict[str, Sequence[Picture]] = {
        name: [Picture(to_png(figure))] for name, figure in drawn.items() if figure is not None
    }
    names = [name for task in shown.results["tasks"] for name in task["names"]]
    newest = sorted(shown.portrait.exemplars)[-_MOST_CLASSES:]
    gallery = [Picture(strip_png(shown.portrait.exemplars[label]), printable(names[label])) for label in newest]
    if gallery:
        pictures["exemplars"] = gallery
    return Panels(tables, pictures)


def _after_phases(shown: ReportInput) -> list[tuple[float | str, ...]]:
    """By the main protocol, on all classes seen."""
    protocol = shown.results["protocol"]["evaluation"]
    return [
        (entry["task"] + 1, entry["phase"], readout, percent(value))
        for entry in shown.results["phase_accuracy"]
        for readout, value in entry["accuracy"][protocol].items()
    ]
