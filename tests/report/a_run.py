"""The files of a run that nobody has made, with numbers that are easy to find again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from cl_lightning.core.records import PhaseRecord, TaskRecord
from cl_lightning.metrics.accuracy import AccuracyMatrix
from cl_lightning.report.data import Published, ReportData, write_report_data
from cl_lightning.report.results import PhaseAccuracy, build_results, write_json

ROWS = (((90, 98, 100),), ((70, 90, 100), (40, 49, 50)), ((60, 80, 100), (30, 45, 50), (45, 50, 50)))
"""(right, right among five, images)."""
AFTER_PHASES = (
    PhaseAccuracy(0, 1, "main", {"class_incremental": {"linear": ((85, 98, 100),)}}),
    PhaseAccuracy(1, 1, "main", {"class_incremental": {"linear": ((40, 90, 100), (50, 50, 50))}}),
    PhaseAccuracy(1, 3, "tune", {"class_incremental": {"linear": ((69, 90, 100), (39, 49, 50))}}),
    PhaseAccuracy(2, 1, "main", {"class_incremental": {"linear": ((20, 80, 100), (15, 45, 50), (50, 50, 50))}}),
    PhaseAccuracy(2, 3, "tune", {"class_incremental": {"linear": ((60, 80, 100), (30, 45, 50), (45, 50, 50))}}),
)
NAMES = (("cat", "dog"), ("<b>lynx</b> & co",), ("fox",))
NOTE = "memory.size=20 keeps all of the 20 <i>training</i> images"
CONFUSION = np.array([[30, 10, 5, 5], [10, 30, 5, 5], [4, 2, 30, 14], [1, 1, 3, 45]])
CSV = "epoch,loss/classification,loss/distillation,loss/total,lr,step,task,task/index\n" + "".join(
    f"{step // 4},{1 / step},{0.1 / step},{1.1 / step},{0.01 / step},{step},{step // 20},\n"
    + (f",,,,,{step},,{step // 20 - 1}\n" if step % 20 == 0 else "")
    for step in range(1, 61)
)


def results(matrix: AccuracyMatrix | None = None, num_tasks: int = 3) -> dict[str, object]:
    matrix = matrix or AccuracyMatrix(ROWS)
    labels, records = iter(range(4)), []
    for index, names in enumerate(NAMES[: len(matrix)]):
        classes = tuple(next(labels) for _ in names)
        records.append(TaskRecord(index, classes, names, 10.0 + index, 100.0, 1000 + index))
    protocol = {"method": "dytox", "data": "animals", "tasks": [2, 1, 1][:num_tasks], "seed": 0, "model": "tiny",
                "memory": "20 in total", "recipe": "clean", "precision": "32-true"}  # fmt: skip
    phases = [PhaseRecord(task, name, 10, 500, 2.0 + task) for task in range(len(matrix)) for name in ("main", "tune")]
    after_phases = [entry for entry in AFTER_PHASES if entry.task < len(matrix)]
    names = [name for task in NAMES for name in task]
    data = {
        "data_identity": {"train": "0123abcd", "validation": None, "test": None},
        "images": {"train": dict(zip(names, (None, 30, 50, 40), strict=True)), "test": dict.fromkeys(names, 50)},
        "equal_images": {
            "train_and_test": {"images": 2, "examples": [["train/fox/1.png", "val/fox/2.png"]]},
            "two_classes": {"images": 0, "examples": []},
        },
    }
    matrices = {"class_incremental": {"linear": matrix}}
    made = {"seconds": 75.2}
    return build_results(protocol, records, matrices, "linear", 1002, made, phases, after_phases, data, [NOTE])


def write_run(folder: Path, report_data: ReportData | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    write_json(folder / "results.json", results())
    (folder / "metrics.csv").write_text(CSV)
    write_report_data(folder, report_data or full_report_data())
    return folder


def full_report_data() -> ReportData:
    images = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8, 1)
    reliability = np.zeros((2, 10, 3), dtype=np.int64)
    reliability[0, 8] = (100, 60, 85 * 65536)
    reliability[1, 9] = (50, 45, 48 * 65536)
    return ReportData(
        has_published=True,
        published=Published("DyTox, somewhere", "Table 9", (91.0, 80.0, 70.0)),
        probabilities="Confidence: the sigmoid of the score.",
        confusion=CONFUSION,
        reliability=reliability,
        tokens=np.eye(3, 5, dtype=np.float32),
        exemplars={0: images, 3: images[:1]},
        exemplar_counts={0: 7, 3: 1},
        attended=images[:2],
        attention=np.full((2, 3, 2, 2), 0.2, dtype=np.float32),
    )


def stored(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return found
