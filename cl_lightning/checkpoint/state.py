"""State of a run, also in the middle of a phase, as tensors and plain values; and back again.

A checkpoint describes its own network and is loaded strictly (its file format: ``files.py``).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cl_lightning.checkpoint.files import REFERRING, VERSION, Position, last_checkpoint, load_checkpoint
from cl_lightning.checkpoint.parts import Parts
from cl_lightning.checkpoint.schema import check_state
from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.network_parts import references
from cl_lightning.core.records import PhaseRecord, TaskRecord
from cl_lightning.core.rng import Key
from cl_lightning.core.types import PhaseCheckpoint, Plain
from cl_lightning.data.sources.base import ImageSource
from cl_lightning.memory.rehearsal import RehearsalMemory
from cl_lightning.methods.base import Method, frozen_copy
from cl_lightning.metrics.accuracy import AccuracyMatrix
from cl_lightning.metrics.class_balance import ClassCounts
from cl_lightning.metrics.confusion import Answers
from cl_lightning.models.build import build_network
from cl_lightning.models.network import Network
from cl_lightning.report.results import PhaseAccuracy


@dataclass
class Cursor:
    """Position within the task that is being learnt."""

    items: int = 0
    """Number of finished items of its plan."""
    left: PhaseCheckpoint | None = None
    """State of the next phase, if some of its steps have been taken."""
    images: int = 0
    """Images trained on in phases of the task, since each was last resumed."""
    fit_seconds: float = 0.0
    """Seconds spent on those."""
    started: float = field(default_factory=time.monotonic)
    """Start of the task by this process's clock; earlier by the time spent on it before an interruption."""

    @property
    def seconds(self) -> float:
        """Seconds spent on the task."""
        return time.monotonic() - self.started

    def to_plain(self) -> dict[str, Plain]:
        """Return the cursor as plain values, with the seconds spent in place of a clock's."""
        left = None if self.left is None else dict(vars(self.left))  # dataclasses.asdict would copy the tensors
        plain = {name: value for name, value in vars(self).items() if name != "started"}
        return {**plain, "left": left, "seconds": self.seconds}

    @classmethod
    def from_plain(cls, plain: dict[str, Plain]) -> Cursor:
        """Invert :meth:`to_plain`."""
        left = None if plain["left"] is None else PhaseCheckpoint(**plain["left"])
        started = time.monotonic() - plain["seconds"]
        return cls(plain["items"], left, plain["images"], plain["fit_seconds"], started)


@dataclass
class RunState:
    """State of the task loop."""

    memory: RehearsalMemory
    step_offset: int = 0
    """Optimiser steps of all phases so far: the axis of the curves."""
    matrices: dict[str, dict[str, AccuracyMatrix]] = field(default_factory=dict)
    """protocol -> read-out -> counts."""
    records: list[TaskRecord] = field(default_factory=list)
    """Records of the finished tasks."""
    cursor: Cursor = field(default_factory=Cursor)
    """Position within the task after those."""
    precisions: list[tuple[int, str, str]] = field(default_factory=list)
    """(task, phase, precision) of each phase so far; two entries where it was changed within one."""
    phases: list[PhaseRecord] = field(default_factory=list)
    """Records of the finished phases."""
    answers: Answers | None = None
    """Answers of the last evaluation, by the main read-out, with all classes competing."""
    after_phases: list[PhaseAccuracy] = field(default_factory=list)
    """Accuracies after the phases that were evaluated when they had ended."""
    class_counts: dict[str, dict[str, ClassCounts]] = field(default_factory=dict)
    """protocol -> read-out -> counts of each class; empty for a run of a version that did not count them."""

    @property
    def position(self) -> Position:
        """Position of the run: finished tasks, items and steps."""
        left = self.cursor.left
        return Position(len(self.records), self.cursor.items, 0 if left is None else left.steps)

    @property
    def steps(self) -> int:
        """Number of optimiser steps so far, those within a phase too."""
        return self.step_offset + self.position.steps


def load_state(path: Path) -> dict[str, Any]:
    """Read a checkpoint, as ``load_checkpoint`` does.

    Raises:
        AlteredError, InvalidFileError: as that does, and for a file that has not the form of a run's checkpoint.
    """
    payload = load_checkpoint(path)
    check_state(payload, str(path))
    return payload


def last_state(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the last state that can be read in a run's ``checkpoints/``, and its file, as ``last_checkpoint`` does.

    Raises ``InvalidFileError`` for an unaltered file that is no checkpoint of a run.
    """
    found = last_checkpoint(folder)
    if found is not None:
        check_state(found[1], str(found[0]))
    return found


def checkpoint_payload(
    method: Method, state: RunState, source: ImageSource, identity: dict[str, Plain], parts: Parts | None = None
) -> dict[str, Plain]:
    """Return the whole state of a run; ``identity`` identifies it (protocol, class names, data fingerprint).

    With ``parts``, what cannot change any more is written there unless it has been, and referred to.
    """
    networks = {
        "network": _network_state(method.network, parts),
        "teacher": None if method.teacher is None else _network_state(method.teacher, parts, frozen=True),
    }
    return {
        "version": REFERRING if references(networks) else VERSION,
        "identity": identity,
        **networks,
        "extra": method.extra_state(),
        "memory": memory_state(state.memory, source),
        "step_offset": state.step_offset,
        "records": [dataclasses.asdict(record) for record in state.records],
        "cursor": state.cursor.to_plain(),
        "precisions": [list(entry) for entry in state.precisions],
        "phases": [dataclasses.asdict(phase) for phase in state.phases],
        "answers": None if state.answers is None else state.answers.to_plain(),
        "after_phases": [entry.to_plain() for entry in state.after_phases],
        "matrices": {
            protocol: {readout: matrix.to_plain() for readout, matrix in readouts.items()}
            for protocol, readouts in state.matrices.items()
        },
        "class_counts": {
            protocol: {readout: counts.to_plain() for readout, counts in readouts.items()}
            for protocol, readouts in state.class_counts.items()
        },
    }


def restore(payload: dict[str, Plain], method: Method, source: ImageSource) -> RunState:
    """Invert :func:`checkpoint_payload`: put network, teacher and extra state into the unused ``method``, and return
    the run's state. Nothing is grown or trained again.
    """
    sizes = _sizes_of(method.network, payload)
    method.network = restore_network(payload["network"], sizes)
    teacher = payload["teacher"]
    method.teacher = None if teacher is None else frozen_copy(restore_network(teacher, sizes))
    method.load_extra_state(payload["extra"])
    return restored_state(payload, source)


def restored_state(payload: dict[str, Plain], source: ImageSource) -> RunState:
    """Return the state of a checkpoint's run, without its networks. Raises ``InvalidFileError`` for contradictions."""
    try:  # counts, lists and names are checked by the classes that hold them
        return _state_of(payload, source)
    except ValueError as error:
        raise InvalidFileError("the state in the checkpoint", f"is none of a run ({error})") from error


def _state_of(payload: dict[str, Plain], source: ImageSource) -> RunState:
    records = [
        TaskRecord(**{**record, "classes": tuple(record["classes"]), "names": tuple(record["names"])})
        for record in payload["records"]
    ]
    matrices = {
        protocol: {readout: AccuracyMatrix.from_plain(rows) for readout, rows in readouts.items()}
        for protocol, readouts in payload["matrices"].items()
    }
    cursor = Cursor.from_plain(payload["cursor"])
    precisions = [(int(task), str(phase), str(precision)) for task, phase, precision in payload["precisions"]]
    memory = restore_memory(payload["memory"], source)
    phases = [PhaseRecord(**phase) for phase in payload["phases"]]
    answers = None if payload["answers"] is None else Answers.from_plain(payload["answers"])
    after = [PhaseAccuracy.from_plain(entry) for entry in payload["after_phases"]]
    class_counts = _class_counts(payload["class_counts"], matrices, payload["identity"]["protocol"]["tasks"])
    return RunState(
        memory, payload["step_offset"], matrices, records, cursor, precisions, phases, answers, after, class_counts
    )


def _class_counts(
    plain: Plain, matrices: Mapping[str, Mapping[str, AccuracyMatrix]], sizes: list[int]
) -> dict[str, dict[str, ClassCounts]]:
    """Return the counts of each class. Raises ``ValueError`` where they do not add up to those of the tasks."""
    counts = {
        protocol: {readout: ClassCounts.from_plain(rows) for readout, rows in readouts.items()}
        for protocol, readouts in plain.items()
    }
    for protocol, readouts in counts.items():
        for readout, of_classes in readouts.items():
            of_classes.check(matrices.get(protocol, {}).get(readout, AccuracyMatrix()), sizes)
    return counts


def evaluated_images(payload: dict[str, Plain]) -> list[int]:
    """Return the number of images on which each task was last evaluated, by a checkpoint; 0 for a task that was not."""
    for readouts in payload["matrices"].values():
        for rows in readouts.values():
            return [int(total) for _, _, total in rows[-1]]
    return []


def restore_learnt(payload: dict[str, Plain], method: Method) -> None:
    """Put the network and extra state of a checkpoint into the unused ``method``: all that predicts, and nothing that
    only training needs (teacher, memory, position in a task), so that no data are needed.
    """
    method.network = restore_network(payload["network"], _sizes_of(method.network, payload))
    method.network.eval()
    method.load_extra_state(payload["extra"])


def memory_state(memory: RehearsalMemory, source: ImageSource) -> dict[str, Plain]:
    """Return the memory with stable keys in place of rows: files added to a folder move rows, not keys."""
    return _with_lists(memory.state(), source.key)


def restore_memory(payload: dict[str, Plain], source: ImageSource) -> RehearsalMemory:
    """Return a memory from its part of a checkpoint; ``ValueError`` names an image that is no longer there."""
    return RehearsalMemory.from_state(_with_lists(payload, source.row))


def remembered(payload: Mapping[str, Plain]) -> list[tuple[int | str, int]]:
    """Return the keys and labels of all images of a memory's part of a checkpoint, of all replicas: classes ascending;
    of a class the exemplars first, best first, then what is held out.
    """
    lists = [*payload["lists"], payload.get("held_out", {})]
    labels = sorted({int(label) for each in lists for label in each})
    found = [{int(label): keys for label, keys in each.items()} for each in lists]
    return [(key, label) for label in labels for each in found for key in each.get(label, ())]


def _with_lists(plain: Mapping[str, Plain], name: Callable[[Plain], int | str]) -> dict[str, Plain]:
    """Return a memory's plain form with ``name`` of each image in its lists."""

    def named(lists: Mapping[Plain, Sequence[Plain]]) -> dict[Plain, list[int | str]]:
        return {label: [name(image) for image in images] for label, images in lists.items()}

    held = {"held_out": named(plain["held_out"])} if "held_out" in plain else {}
    return {**plain, "lists": [named(each) for each in plain["lists"]], **held}


def _network_state(network: Network, parts: Parts | None, *, frozen: bool = False) -> dict[str, Plain]:
    if parts is not None:
        role = "teacher" if frozen else "network"
        return {"structure": network.structure(), **parts.write(role, network, frozen=frozen)}
    return {"structure": network.structure(), "weights": {k: v.cpu() for k, v in network.state_dict().items()}}


def restore_network(payload: dict[str, Plain], sizes: Mapping[str, int] | None = None) -> Network:
    """Return a network from its part of a checkpoint: rebuilt from its own description, loaded strictly.

    ``sizes`` are upper bounds of the numbers in the description.

    Raises:
        InvalidFileError: an incomplete description, or weights that do not fit it.
    """
    structure, weights = payload["structure"], payload["weights"]
    for name, value in _numbers(structure):
        if sizes is not None and value > sizes.get(name, value):
            reason = f"has {name}={value}, its run has {name}={sizes[name]}"[:170]
            raise InvalidFileError("a network in the checkpoint", reason)
    try:  # the same constructors have made the method's own network, from the configuration
        network = build_network(structure, Key(0))
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        reason = f"is not described as this program does it ({reason})"
        raise InvalidFileError("a network in the checkpoint", reason) from error
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:  # names or shapes: torch has no other word for it
        reason = " ".join(str(error).split())[:120]
        reason = f"are not those of its network ({reason})"
        raise InvalidFileError("the weights in the checkpoint", reason) from error
    return network


def _sizes_of(network: Network, payload: Mapping[str, Plain]) -> dict[str, int]:
    """Return the numbers that describe a fresh network once it has learnt a task, as bounds: no network costs more than
    was forecast. The given one is grown, and to be replaced.
    """
    network.grow(payload["identity"]["protocol"]["tasks"][0], Key(0))  # some networks have their sizes only then
    learnt = len(payload["records"]) + 1
    sizes = {"classes": sum(payload["identity"]["protocol"]["tasks"]), "packed": learnt, "learnt": learnt}
    for name, value in _numbers(network.structure()):
        sizes[name] = max(value, sizes.get(name, value))
    return sizes


def _numbers(plain: Plain, name: str = "") -> Iterator[tuple[str, int]]:
    """Yield each whole number in a description, and its key."""
    if isinstance(plain, Mapping):
        for key, value in plain.items():
            yield from _numbers(value, str(key))
    elif isinstance(plain, list | tuple):
        for value in plain:
            yield from _numbers(value, name)
    elif isinstance(plain, int):
        yield name, int(plain)
