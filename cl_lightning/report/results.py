"""The machine-readable outcome of a run: ``results.json`` and ``accuracy_matrix.csv``, written whole or not at all.

Two equal runs have equal results up to the one key ``provenance``, which takes everything that may differ: times,
speeds, versions, host. All numbers derive from the counts of the accuracy matrices.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cl_lightning.atomic import write_atomic
from cl_lightning.metrics import continual
from cl_lightning.metrics.accuracy import AccuracyMatrix
from cl_lightning.types import Plain

Matrices = Mapping[str, Mapping[str, AccuracyMatrix]]
"""Protocol -> read-out -> accuracy matrix. The first protocol is the run's main one."""


@dataclass(frozen=True)
class TaskRecord:
    """What a run knows of a task beside its counts."""

    index: int
    classes: tuple[int, ...]
    """Global labels."""
    names: tuple[str, ...]
    seconds: float
    """Wall time of the task, training and evaluation."""
    images_per_second: float
    """Training throughput."""
    parameters: int
    """Of the network after the task."""


@dataclass(frozen=True)
class PhaseRecord:
    """What a phase of a task took."""

    task: int
    phase: str
    steps: int
    """Optimiser steps."""
    images: int
    """Trained on since it was last gone on with, as ``seconds`` are."""
    seconds: float


def build_results(
    protocol: Mapping[str, Plain],
    tasks: Sequence[TaskRecord],
    matrices: Matrices,
    main_readout: str,
    parameters: int,
    provenance: Mapping[str, Plain],
    phases: Sequence[PhaseRecord] = (),
    notes: Sequence[str] = (),
) -> dict[str, Plain]:
    """Assemble ``results.json``: plain values, accuracies in [0, 1], None for what does not apply.

    The numbers at the top level are those of the first protocol in ``matrices`` and of ``main_readout``; both are
    named in the result's ``protocol``, as ``evaluation`` and ``readout``. ``notes`` are lines that say why they mean
    less than they seem to.

    Raises:
        ValueError: no such read-out, no evaluation, or matrices and tasks of different lengths.
    """
    evaluation = next(iter(matrices), None)
    if evaluation is None or main_readout not in matrices[evaluation]:
        offered = sorted({name for readouts in matrices.values() for name in readouts})
        raise ValueError(f"read-out {main_readout} has not been evaluated, only {offered}: let the method predict it")
    lengths = {len(matrix) for readouts in matrices.values() for matrix in readouts.values()}
    if lengths != {len(tasks)} or not tasks:
        got = f"accuracy matrices of {sorted(lengths)} tasks do not match {len(tasks)} tasks"
        raise ValueError(f"{got}: evaluate after each task")
    main = matrices[evaluation][main_readout]
    R = main.accuracies()
    return {
        "protocol": {**protocol, "evaluation": evaluation, "readout": main_readout},
        "tasks": [_task(record, matrices) for record in tasks],
        "accuracy_matrix": _each(matrices, AccuracyMatrix.accuracies),
        "average_incremental_accuracy": continual.average_incremental_accuracy(main),
        "last_accuracy": continual.last_accuracy(main),
        "forgetting": continual.forgetting(R),
        "backward_transfer": continual.backward_transfer(R),
        "parameters": parameters,
        "notes": list(notes),
        "provenance": {
            **provenance,
            "tasks": [_speed(record) for record in tasks],
            "phases": [dataclasses.asdict(phase) for phase in phases],
        },
    }


def _task(record: TaskRecord, matrices: Matrices) -> dict[str, Plain]:
    return {
        "index": record.index,
        "classes": list(record.classes),
        "names": list(record.names),
        "accuracy": _each(matrices, lambda matrix: matrix.seen(record.index)),
        "top5": _each(matrices, lambda matrix: matrix.seen(record.index, top=5)),
        "parameters": record.parameters,
    }


def _speed(record: TaskRecord) -> dict[str, Plain]:
    return {"index": record.index, "seconds": record.seconds, "images_per_second": record.images_per_second}


def _each(matrices: Matrices, of: Callable[[AccuracyMatrix], Plain]) -> dict[str, dict[str, Plain]]:
    return {
        protocol: {name: of(matrix) for name, matrix in readouts.items()} for protocol, readouts in matrices.items()
    }


def matrix_csv(matrices: Matrices) -> str:
    """The text of ``accuracy_matrix.csv``: a line for each protocol, read-out, task learnt and task evaluated."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["protocol", "readout", "after_task", "eval_task", "hits", "total", "accuracy"])
    for protocol, readouts in matrices.items():
        for readout, matrix in readouts.items():
            for after, row in enumerate(matrix.rows):
                writer.writerows(
                    [protocol, readout, after, task, hits, n, hits / n if n else ""]
                    for task, (hits, _, n) in enumerate(row)
                )
    return text.getvalue()


def write_results(run_dir: Path, results: Mapping[str, Plain], matrices: Matrices) -> None:
    """Write ``results.json`` and ``accuracy_matrix.csv`` of a run, each atomically. Results that are there already keep
    the provenance of the process that made them.
    """
    write_atomic(run_dir / "accuracy_matrix.csv", matrix_csv(matrices))
    if not _is_there(run_dir / "results.json", results):
        write_json(run_dir / "results.json", results)


def _is_there(path: Path, results: Mapping[str, Plain]) -> bool:
    """Whether the file says the same of the same run, whoever wrote it: with other notes, if they came later."""
    apart = {"provenance": None, "notes": None}
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        return {**written, **apart} == json.loads(json.dumps(_finite({**results, **apart})))
    except (OSError, ValueError, TypeError):
        return False


def write_json(path: Path, value: Plain) -> None:
    """Write JSON atomically. Numbers that JSON does not have (NaN, infinity) become null."""
    write_atomic(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def _finite(value: Plain) -> Plain:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
