"""Small runs with made-up counts: files as a run writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cl_lightning.compare.collect import collect
from cl_lightning.compare.measured import MeasuredRun, measure
from cl_lightning.core.records import TaskRecord
from cl_lightning.metrics.accuracy import AccuracyMatrix, Cell
from cl_lightning.metrics.class_balance import ClassCell, ClassCounts
from cl_lightning.report.results import build_results, write_results

NAMES = (("cat", "dog"), ("owl", "elk"), ("ape", "cow"))
PROTOCOL: dict[str, Any] = {
    "method": "dytox",
    "data": "pets",
    "classes": 6,
    "tasks": [2, 2, 2],
    "order": "identity",
    "evaluates_on": "test",
    "model": "convit_tiny",
    "memory": "20 in total",
    "recipe": "clean",
    "recipe_switches": {"finetuning_order": "shuffled"},
    "epochs": "5 main",
    "method_options": {"temperature": 1.0, "finetuning": {"epochs": 20}},
    "seed": 0,
}


def write_run(
    folder: Path,
    last: int,
    *,
    done: int = 3,
    names: tuple[tuple[str, ...], ...] = NAMES,
    commit: str = "abc",
    readouts: tuple[str, ...] = ("linear",),
    config: dict[str, Any] | None = None,
    images: tuple[str, str] | None = ("1234567890", "abcdefabcd"),
    multiply_adds: int | None = 2_000_000,
    uneven: bool = False,
    **protocol: Any,
) -> Path:
    """A run that has all 10 test images of a task right when it is new, and ``last`` of them later. ``images``: digests
    of those that it was trained and tested on; None: as earlier versions wrote results. So is ``multiply_adds=None``.
    ``uneven``: the first class of a task has 9 of its 10 images and all of the errors.
    """
    rows = tuple(tuple((10 if task == after else last, 10, 10) for task in range(after + 1)) for after in range(done))
    worse = tuple(tuple((hits - 1, 10, 10) for hits, _, _ in row) for row in rows)
    matrices = {
        evaluation: {name: AccuracyMatrix(rows if name == "linear" else worse) for name in readouts}
        for evaluation in ("class_incremental", "task_incremental")
    }
    first = [sum(len(one) for one in names[:task]) for task in range(done)]
    records = [
        TaskRecord(
            task,
            tuple(range(first[task], first[task] + len(names[task]))),
            names[task],
            1.0,
            1.0,
            1000 + task,
            multiply_adds,
            None if multiply_adds is None else 100 << 20,
        )
        for task in range(done)
    ]
    data = {} if images is None else {"data_identity": {"train": images[0], "validation": None, "test": images[1]}}
    counts = {
        evaluation: {name: ClassCounts(tuple(map(_of_classes, matrix.rows))) for name, matrix in of.items()}
        for evaluation, of in matrices.items()
        if uneven
    }
    results = build_results(
        {**PROTOCOL, **protocol}, records, matrices, readouts[0], 1234, {"commit": commit}, data=data,
        class_counts=counts,
    )  # fmt: skip
    folder.mkdir(parents=True)
    write_results(folder, results, matrices)
    if config is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


def _of_classes(row: Sequence[Cell]) -> tuple[ClassCell, ...]:
    return tuple(cell for right, _, images in row for cell in ((right - 1, images - 1), (1, 1)))


def measured(folder: Path) -> list[MeasuredRun]:
    """All runs below a folder."""
    return [measure(found) for found in collect([folder])[0]]
