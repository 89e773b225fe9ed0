"""The data of a report, as plain numbers: read from the files of a run, so that a page can be rebuilt without
data, network or GPU.

Legend: C classes, T tasks, D width, H, W image, h, w patches.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cl_lightning.core.atomic_write import make_folder, replace_file
from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.file_type import read_file
from cl_lightning.core.json_schema import read_json
from cl_lightning.core.missing_keys import complete_results
from cl_lightning.core.types import Plain
from cl_lightning.report.results import write_json
from cl_lightning.report.results_schema import check_results_file

FOLDER = "report"
"""Subfolder of a run: the figures, and the data that they are drawn from."""
_ARRAYS, _PLAIN = "data.npz", "data.json"
_MANY_CLASSES = 1024
"""Largest number of classes whose confusion matrix is saved whole: packing that of 5,000 takes up to 20 s. Of more, the
cells that are not empty are saved.
"""
_CELLS, _CLASSES = "confusion_cells", "confusion_classes"


@dataclass(frozen=True)
class Published:
    """A published curve of the same protocol."""

    name: str
    source: str
    accuracy: tuple[float, ...]
    """In %, on all classes seen after each task."""


@dataclass(frozen=True, eq=False)
class ReportData:
    """Network, memory and answers after the last task; None for what a run does not have."""

    folder: str = ""
    """Name of the folder that the images come from, where they are somebody's own; else empty."""
    has_published: bool = False
    """True if there are published curves on these data, of this protocol or another one."""
    published: Published | None = None
    probabilities: str = ""
    """Sentence that says how a confidence is computed."""
    confusion: NDArray[np.int64] | None = None
    """(C, C) number of images of class i that were predicted as class j."""
    reliability: NDArray[np.int64] | None = None
    """(2, K, 3), as ``metrics.confusion.Answers.reliability``."""
    tokens: NDArray[np.float32] | None = None
    """(T, F) one vector a task: its token, or its bank of keys."""
    exemplars: Mapping[int, NDArray[np.uint8]] = field(default_factory=dict)
    """Class -> some of its exemplars (n, H, W, channels)."""
    exemplar_counts: Mapping[int, int] = field(default_factory=dict)
    """Class -> number of its distinct exemplars."""
    attended: NDArray[np.uint8] | None = None
    """(n, H, W, channels) images whose attention is shown."""
    attention: NDArray[np.float32] | None = None
    """(n, T, h, w) weight of each patch in each task's attention, mean over heads."""


@dataclass(frozen=True)
class ReportInput:
    """The input of a report page: a run's results, curves and report data."""

    results: Mapping[str, Any]
    """``results.json``."""
    curves: tuple[Mapping[str, float], ...]
    """Rows of ``metrics.csv``."""
    data: ReportData


def write_report_data(run_dir: Path, data: ReportData) -> None:
    """Save what cannot be rebuilt from the run's other files."""
    arrays = {
        name: value
        for name in ("confusion", "reliability", "tokens", "attended", "attention")
        if (value := getattr(data, name)) is not None
    }
    arrays |= _few_cells(arrays.pop("confusion", None))
    arrays |= {f"exemplars/{label}": images for label, images in data.exemplars.items()}
    published = data.published
    plain: dict[str, Plain] = {
        "folder": data.folder,
        "has_published": data.has_published,
        "published": None if published is None else {**vars(published), "accuracy": list(published.accuracy)},
        "probabilities": data.probabilities,
        "exemplar_counts": {str(label): count for label, count in data.exemplar_counts.items()},
    }
    folder = run_dir / FOLDER
    make_folder(folder)
    replace_file(folder / _ARRAYS, lambda file: np.savez_compressed(file, **arrays))
    write_json(folder / _PLAIN, plain)


def read_report_data(run_dir: Path) -> ReportData:
    """Read what :func:`write_report_data` saved; an empty one where it has saved nothing."""
    folder = run_dir / FOLDER
    if not (folder / _PLAIN).exists() or not (folder / _ARRAYS).exists():
        return ReportData()
    plain = json.loads(read_file(folder / _PLAIN))
    with np.load(folder / _ARRAYS, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    if _CELLS in arrays:
        arrays["confusion"] = _from_cells(arrays.pop(_CELLS), int(arrays.pop(_CLASSES)))
    exemplars = {int(name.split("/")[1]): arrays.pop(name) for name in sorted(arrays) if name.startswith("exemplars/")}
    published = plain["published"]
    return ReportData(
        published=None if published is None else Published(**{**published, "accuracy": tuple(published["accuracy"])}),
        folder=plain.get("folder", ""),
        has_published=plain.get("has_published", True),  # earlier versions said so of all data
        probabilities=plain["probabilities"],
        exemplars=exemplars,
        exemplar_counts={int(label): count for label, count in plain["exemplar_counts"].items()},
        **arrays,
    )


def _few_cells(confusion: NDArray[np.int64] | None) -> dict[str, NDArray[np.int64]]:
    """Return the arrays that hold a confusion matrix: of many classes, the cells that are not empty."""
    if confusion is None:
        return {}
    if len(confusion) <= _MANY_CLASSES:
        return {"confusion": confusion}
    filled = np.flatnonzero(confusion)
    return {_CELLS: np.stack([filled, confusion.reshape(-1)[filled]]), _CLASSES: np.array(len(confusion))}


def _from_cells(cells: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    confusion = np.zeros(classes * classes, dtype=np.int64)
    confusion[cells[0]] = cells[1]
    return confusion.reshape(classes, classes)


def read_report_input(run_dir: Path) -> ReportInput:
    """Read a run from its files.

    Raises:
        InvalidFileError: there is no run that has finished a task, or its ``results.json`` is broken; one line.
    """
    path = run_dir / "results.json"
    if not path.exists():
        raise InvalidFileError(run_dir, "has no results.json", "a run writes it after its first task")
    try:
        results = complete_results(read_json(read_file(path), "it"))
        check_results_file(results)
        results["protocol"]["readout"], results["tasks"][0], results["accuracy_matrix"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        reason = f"is no results.json of a run ({type(error).__name__}: {error})"
        raise InvalidFileError(path, reason) from error
    return ReportInput(results, _curves(run_dir / "metrics.csv"), read_report_data(run_dir))


def _curves(path: Path) -> tuple[dict[str, float], ...]:
    if not path.exists():
        return ()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple({name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file))
    except (csv.Error, ValueError, TypeError) as error:  # a torn line has no name, or no number, for a cell
        mend = "delete it to have a report without curves"
        raise InvalidFileError(path, f"is damaged ({error})", mend) from error
