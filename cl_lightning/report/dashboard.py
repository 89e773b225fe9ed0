"""The report's tables and pictures for a dashboard, as the run goes on."""

from __future__ import annotations

from collections.abc import Sequence

from cl_lightning.core.printable import printable
from cl_lightning.report import figures
from cl_lightning.report.data import ReportInput
from cl_lightning.report.numbers import main_matrix, percent
from cl_lightning.report.panels import Panels, Picture, Table
from cl_lightning.report.pictures import strip_png, to_png

_MOST_CLASSES = 100
"""Largest number of classes whose exemplars are sent: the newest."""


def panels(run: ReportInput) -> Panels:
    """Return the tables and pictures of the tasks done so far."""
    rows = [(i + 1, j + 1, value) for i, row in enumerate(main_matrix(run)) for j, value in enumerate(row)]
    tables: dict[str, Table] = {"accuracy": (("after task", "on task", "accuracy in %"), rows)}
    if "phase_accuracy" in run.results:
        tables["accuracy_after_phases"] = (("task", "phase", "read-out", "accuracy in %"), _after_phases(run))
    drawn = {
        "accuracy_matrix": figures.matrix(run),
        "accuracy_after_phases": figures.phases(run),
        "tasks": figures.tasks_over_time(run),
        "confusion_of_tasks": figures.confusion(run),
        "calibration": figures.calibration(run),
    }
    pictures: dict[str, Sequence[Picture]] = {
        name: [Picture(to_png(figure))] for name, figure in drawn.items() if figure is not None
    }
    names = [name for task in run.results["tasks"] for name in task["names"]]
    newest = sorted(run.data.exemplars)[-_MOST_CLASSES:]
    gallery = [Picture(strip_png(run.data.exemplars[label]), printable(names[label])) for label in newest]
    if gallery:
        pictures["exemplars"] = gallery
    return Panels(tables, pictures)


def _after_phases(run: ReportInput) -> list[tuple[float | str, ...]]:
    """Return (task, phase, read-out, accuracy in %) rows: main protocol, all classes seen."""
    protocol = run.results["protocol"]["evaluation"]
    return [
        (entry["task"] + 1, entry["phase"], readout, percent(value))
        for entry in run.results["phase_accuracy"]
        for readout, value in entry["accuracy"][protocol].items()
    ]
