"""Runs that nobody has made, of any number of tasks and classes: ``python -m tests.report.gallery OUT`` writes the page
of each case into a folder, to be looked at.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cl_lightning.core.records import PhaseRecord, TaskRecord
from cl_lightning.metrics.accuracy import AccuracyMatrix, Cell
from cl_lightning.report.data import Published, ReportData, write_report_data
from cl_lightning.report.results import PhaseAccuracy, build_results, write_json
from cl_lightning.report.write import write_report

LONG = "a_class_whose_name_nobody_would_type_" * 7


@dataclass(frozen=True)
class Case:
    """A run by its numbers; ``more``: with everything that a run can have, and with names that are no help."""

    tasks: int
    classes: int
    more: bool = False

    @property
    def name(self) -> str:
        return f"{self.tasks}_tasks_{self.classes}_classes{'_more' if self.more else ''}"

    @property
    def sizes(self) -> list[int]:
        return [len(part) for part in np.array_split(np.arange(self.classes), self.tasks)]


CASES = (
    Case(1, 10), Case(2, 10), Case(2, 10, more=True), Case(5, 10), Case(5, 10, more=True), Case(10, 100),
    Case(20, 100, more=True), Case(100, 100), Case(10, 1000, more=True), Case(100, 1000),
)  # fmt: skip


def write_case(folder: Path, case: Case) -> Path:
    """Write the files of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(case.tasks * 10_000 + case.classes)
    write_json(folder / "results.json", _results(case, random))
    (folder / "metrics.csv").write_text(_curves(case, random))
    write_report_data(folder, _report_data(case, random))
    return folder


def _results(case: Case, random: np.random.Generator) -> dict[str, Any]:
    labels, names = iter(range(case.classes)), _names(case)
    records = []
    for index, size in enumerate(case.sizes):
        own = tuple(next(labels) for _ in range(size))
        records.append(TaskRecord(index, own, tuple(names[label] for label in own), 20.0, 900.0, 100_000 + index))
    protocols = ("class_incremental", "task_incremental", "task_inference")
    readouts = ("linear", "nearest_mean", "entropy") if case.more else ("linear",)
    matrices = {
        protocol: {readout: _matrix(case, random, 12 * p + 3 * r) for r, readout in enumerate(readouts)}
        for p, protocol in enumerate(protocols)
    }
    phases = [
        PhaseRecord(task, phase, 100, 3000, 4.0 + task % 7)
        for task in range(case.tasks)
        for phase in ("main", "finetuning")
    ]
    after = [
        PhaseAccuracy(task, 1, "main", {"class_incremental": {"linear": tuple((50, 60, 100) for _ in range(task + 1))}})
        for task in range(case.tasks)
    ]
    counts = {
        "train": {name: int(random.integers(5, 1500)) for name in names},
        "test": {name: int(random.integers(1, 100)) for name in names},
    }
    data = {
        "data_identity": {
            "train": "56abd3a6da86eda3e31a28f4bdecc999",
            "validation": None,
            "test": "926678b246a9c791504",
        },
        "images": counts,
        "equal_images": {
            "train_and_test": {"images": 2, "examples": [["train/fox/1.png", f"test/{LONG}/2.png"]]},
            "two_classes": {"images": 0, "examples": []},
        },
        **({"left_out": [{"kind": ".txt files", "count": 3, "example": f"{LONG}/{LONG}.txt"}]} if case.more else {}),
    }
    protocol = {
        "method": "dytox", "data": "pictures", "classes": case.classes, "tasks": case.sizes, "seed": 0,
        "evaluates_on": "test", "model": "convit_cifar", "memory": "2000 in total", "recipe": "clean",
        "recipe_switches": {f"a_switch_{index}": False for index in range(12)}, "precision": "32-true", "batch": 128,
        "epochs": "500 main + 20 finetuning",
    }  # fmt: skip
    made = {
        "seconds": 4210.2, "started": "2026-01-02T03:04:05+0000", "commit": "0123456789ab", "device": "one GPU",
        "command": f"data.root=/data/{LONG if case.more else 'pictures'}",
    }  # fmt: skip
    notes = [f"memory.size=2000 keeps all training images of {LONG}"] if case.more else []
    measured = after if case.more else ()
    return build_results(protocol, records, matrices, "linear", 10_720_000, made, phases, measured, data, notes)


def _names(case: Case) -> list[str]:
    names = [f"class {label}" for label in range(case.classes)]
    if case.more:
        names[1], names[2] = LONG[:240], "<b>lynx</b> & $x^2$ co"
    return names


def _matrix(case: Case, random: np.random.Generator, better: int) -> AccuracyMatrix:
    rows: list[tuple[Cell, ...]] = []
    for after in range(case.tasks):
        ages = after - np.arange(after + 1)
        right = np.clip(78 + better / 2 - 38 * (1 - 0.75**ages) + random.normal(0, 3, after + 1), 0, 100)
        rows.append(tuple((int(each), min(100, int(each) + 3), 100) for each in right))
    return AccuracyMatrix(tuple(rows))


def _curves(case: Case, random: np.random.Generator) -> str:
    lines = ["epoch,loss/classification,loss/distillation,loss/divergence,loss/total,lr,step,task,task/index"]
    step = 0
    for task in range(case.tasks):
        for epoch in range(30):
            step += 10
            loss = 2 * 0.93**epoch * random.uniform(0.7, 1.3) + 0.01
            lines.append(f"{epoch},{loss},{loss / 3},{loss / 20},{1.4 * loss},{5e-4 * (1 - epoch / 30)},{step},{task},")
        lines.append(f",,,,,,{step},,{task}")
    return "\n".join(lines) + "\n"


def _report_data(case: Case, random: np.random.Generator) -> ReportData:
    confusion = np.zeros((case.classes, case.classes), dtype=np.int64)
    for label in range(case.classes):
        others = random.integers(0, case.classes, 12)
        np.add.at(confusion[label], others, 1)
        confusion[label, label] += int(random.integers(5, 60))
    reliability = np.zeros((2, 10, 3), dtype=np.int64)
    for bin_ in range(2, 10):
        for group in range(2):
            count = 10 + 12 * bin_
            reliability[group, bin_] = (count, int(count * bin_ / (11 + group)), int(count * (bin_ + 0.5) / 10 * 65536))
    shown = max(1, min(8, 800 // case.classes))
    exemplars = {
        label: random.integers(0, 255, (shown, 16, 16, 3), dtype=np.uint8) for label in range(case.classes)[-800:]
    }
    attended = random.integers(0, 255, (min(4, case.tasks), 32, 32, 3), dtype=np.uint8) if case.more else None
    attention = random.random((min(4, case.tasks), case.tasks, 8, 8), dtype=np.float32) if case.more else None
    return ReportData(
        published=Published("DyTox+, the authors' own code", "Table 9", tuple(90 - 0.3 * k for k in range(case.tasks)))
        if case.more
        else None,
        probabilities="Confidence: the sigmoid of the score; those of all classes do not sum to one.",
        confusion=confusion,
        reliability=reliability,
        tokens=random.normal(size=(case.tasks, 16)).astype(np.float32),
        exemplars=exemplars,
        exemplar_counts={label: max(1, 2000 // case.classes) for label in range(case.classes)},
        attended=attended,
        attention=attention,
    )


if __name__ == "__main__":
    for each in CASES:
        written = write_report(write_case(Path(sys.argv[1]) / each.name, each))
        sys.stdout.write(f"{written}: {written.stat().st_size:,} bytes\n")
