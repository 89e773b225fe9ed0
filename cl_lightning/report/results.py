"""The machine-readable results of a run: ``results.json`` and ``accuracy_matrix.csv``, written whole or not at all.

Two equal runs have equal results up to the one key ``provenance``, which holds everything that may differ: times,
speeds, versions, host. All numbers derive from the counts of the accuracy matrices.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cl_lightning.core.atomic_write import write_atomic
from cl_lightning.core.file_type import read_file
from cl_lightning.core.records import PhaseRecord, TaskRecord
from cl_lightning.core.types import Plain
from cl_lightning.metrics import continual
from cl_lightning.metrics.accuracy import AccuracyMatrix, Cell, accuracies_of_each, accuracy_of_all
from cl_lightning.metrics.class_balance import ClassCounts

AFTER_PHASES = "accuracy_after_phases.csv"
Matrices = Mapping[str, Mapping[str, AccuracyMatrix]]
"""Protocol -> read-out -> accuracy matrix. The first protocol is the run's main one."""
CountsOfClasses = Mapping[str, Mapping[str, ClassCounts]]
"""Protocol -> read-out -> counts of each class."""
NO_FORWARD_TRANSFER = "a class has no score before it is learnt: its head is added when its task begins"
"""Reason why forward transfer is null."""


@dataclass(frozen=True)
class PhaseAccuracy:
    """The accuracy after a phase, before the rest of its task's plan: counts on all tasks so far."""

    task: int
    item: int
    """Index of the phase in the task's plan."""
    phase: str
    counts: Mapping[str, Mapping[str, tuple[Cell, ...]]]
    """Protocol -> read-out -> right answers on each task; the main ones first. Read-outs that existed by then."""

    def to_plain(self) -> Plain:
        """Return plain values for a checkpoint."""
        counts = {protocol: {name: list(map(list, row)) for name, row in of.items()} for protocol, of in self._each()}
        return {"task": self.task, "item": self.item, "phase": self.phase, "counts": counts}

    @staticmethod
    def from_plain(plain: Plain) -> PhaseAccuracy:
        """Invert :meth:`to_plain`."""
        counts = {
            protocol: {name: tuple((int(a), int(b), int(n)) for a, b, n in row) for name, row in of.items()}
            for protocol, of in plain["counts"].items()
        }
        return PhaseAccuracy(int(plain["task"]), int(plain["item"]), str(plain["phase"]), counts)

    def to_results(self) -> dict[str, Plain]:
        """Return the entry of ``phase_accuracy`` in ``results.json``: on all classes seen, and on each task."""
        return {
            "task": self.task,
            "phase": self.phase,
            "accuracy": {p: {name: accuracy_of_all(row) for name, row in of.items()} for p, of in self._each()},
            "accuracy_by_task": {
                p: {name: accuracies_of_each(row) for name, row in of.items()} for p, of in self._each()
            },
        }

    def _each(self) -> Iterable[tuple[str, Mapping[str, tuple[Cell, ...]]]]:
        return self.counts.items()


def build_results(
    protocol: Mapping[str, Plain],
    tasks: Sequence[TaskRecord],
    matrices: Matrices,
    main_readout: str,
    parameters: int,
    provenance: Mapping[str, Plain],
    phases: Sequence[PhaseRecord] = (),
    after_phases: Sequence[PhaseAccuracy] = (),
    data: Mapping[str, Plain] | None = None,
    notes: Sequence[str] = (),
    class_counts: CountsOfClasses | None = None,
) -> dict[str, Plain]:
    """Assemble ``results.json``: plain values, accuracies in [0, 1], None for what does not apply.

    The numbers at the top level are those of the first protocol in ``matrices`` and of ``main_readout``; both are
    named in the result's ``protocol``, as ``evaluation`` and ``readout``. Without ``after_phases`` there is no key
    ``phase_accuracy``. ``data`` has further entries, of the images. ``notes`` are lines that say why the numbers mean
    less than they seem to. Without ``class_counts``, which runs of earlier versions lack, ``macro_accuracy`` is None.

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
    measured = [entry.to_results() for entry in after_phases]
    macro = _macro(matrices, class_counts) if class_counts else None
    return {
        "protocol": {**protocol, "evaluation": evaluation, "readout": main_readout},
        "tasks": [_task(record, matrices) for record in tasks],
        "accuracy_matrix": _each(matrices, AccuracyMatrix.accuracies),
        "average_incremental_accuracy": continual.average_incremental_accuracy(main),
        "last_accuracy": continual.last_accuracy(main),
        "forgetting": continual.forgetting(R),
        "backward_transfer": continual.backward_transfer(R),
        "forward_transfer": continual.forward_transfer(R),
        "forward_transfer_reason": NO_FORWARD_TRANSFER,
        "macro_accuracy": macro,
        "last_macro_accuracy": None if macro is None else macro[evaluation][main_readout][-1],
        "parameters": parameters,
        "costs": _costs(tasks),
        **({"phase_accuracy": measured} if measured else {}),
        **(data or {}),
        "notes": list(notes),
        "provenance": {
            **provenance,
            "peak_memory": _largest(record.peak_memory for record in tasks),
            "peak_gpu_memory": _largest(record.peak_gpu_memory for record in tasks),
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


def _costs(tasks: Sequence[TaskRecord]) -> Plain:
    """Return the costs in which equal runs agree, after the last task and after each; None where none was counted."""
    counts = [record.multiply_adds for record in tasks]
    return None if counts[-1] is None else {"multiply_adds": counts[-1], "multiply_adds_by_task": counts}


def _largest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _speed(record: TaskRecord) -> dict[str, Plain]:
    return {"index": record.index, "seconds": record.seconds, "images_per_second": record.images_per_second}


def _each(matrices: Matrices, of: Callable[[AccuracyMatrix], Plain]) -> dict[str, dict[str, Plain]]:
    return {
        protocol: {name: of(matrix) for name, matrix in readouts.items()} for protocol, readouts in matrices.items()
    }


def _macro(matrices: Matrices, class_counts: CountsOfClasses) -> dict[str, dict[str, list[float | None]]]:
    """Return the class-balanced accuracy in [0, 1] on all classes seen, after each task."""
    return {
        protocol: {
            name: [class_counts.get(protocol, {}).get(name, ClassCounts()).macro(after) for after in range(len(matrix))]
            for name, matrix in readouts.items()
        }
        for protocol, readouts in matrices.items()
    }


def matrix_csv(matrices: Matrices) -> str:
    """Return the text of ``accuracy_matrix.csv``: a line for each protocol, read-out, learnt and evaluated task."""
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


def phases_csv(after_phases: Sequence[PhaseAccuracy]) -> str:
    """Return the text of ``accuracy_after_phases.csv``: a line for each phase, protocol, read-out and task."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["protocol", "readout", "task", "phase", "eval_task", "hits", "total", "accuracy"])
    for entry in after_phases:
        for protocol, readouts in entry.counts.items():
            for readout, row in readouts.items():
                writer.writerows(
                    [protocol, readout, entry.task, entry.phase, task, hits, n, hits / n if n else ""]
                    for task, (hits, _, n) in enumerate(row)
                )
    return text.getvalue()


def write_results(
    run_dir: Path, results: Mapping[str, Plain], matrices: Matrices, after_phases: Sequence[PhaseAccuracy] = ()
) -> None:
    """Write ``results.json`` and ``accuracy_matrix.csv`` of a run, and ``accuracy_after_phases.csv`` where phases were
    evaluated, each atomically. Existing results keep the provenance of the process that made them, also where an
    earlier version recorded less.
    """
    write_atomic(run_dir / "accuracy_matrix.csv", matrix_csv(matrices))
    if after_phases:
        write_atomic(run_dir / AFTER_PHASES, phases_csv(after_phases))
    made = written_provenance(run_dir / "results.json", results)
    write_json(run_dir / "results.json", results if made is None else {**results, "provenance": made})


def written_provenance(path: Path, results: Mapping[str, Plain]) -> Plain:
    """Return the provenance in the file if its other entries, where it has them, are equal; else None. Notes may have
    been added or changed since.
    """
    apart = {"provenance": None, "notes": None}
    try:
        written = json.loads(read_file(path))
        current = json.loads(json.dumps(finite({**results, **apart})))
        return written["provenance"] if {**current, **written, **apart} == current else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def write_json(path: Path, value: Plain) -> None:
    """Write JSON atomically. Numbers that JSON does not have (NaN, infinity) become null."""
    write_atomic(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def finite(value: Plain) -> Plain:
    """Return the value with null for each number that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
