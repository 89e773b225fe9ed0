"""What a run knows between plan items, and how it is kept in files that are whole or not there.

A checkpoint holds tensors and plain values only, describes its own network, and is loaded with ``weights_only=True``,
strictly.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from cl_lightning.data.sources import ImageSource
from cl_lightning.memory.rehearsal import RehearsalMemory
from cl_lightning.methods.base import Method, frozen_copy
from cl_lightning.metrics.accuracy import AccuracyMatrix
from cl_lightning.models.build import build_network
from cl_lightning.models.network import Network
from cl_lightning.report.results import TaskRecord
from cl_lightning.rng import Key
from cl_lightning.types import Plain

VERSION = 2
log = logging.getLogger(__name__)


@dataclass
class RunState:
    """Where the sequence stands."""

    memory: RehearsalMemory
    step_offset: int = 0
    """Optimiser steps of all phases so far: the axis of the curves."""
    matrices: dict[str, dict[str, AccuracyMatrix]] = field(default_factory=dict)
    """protocol -> read-out -> counts."""
    records: list[TaskRecord] = field(default_factory=list)
    """One for each finished task."""


def checkpoint_payload(
    method: Method, state: RunState, source: ImageSource, identity: dict[str, Plain]
) -> dict[str, Plain]:
    """Everything of a run at the end of a task; ``identity`` says of which run (protocol, class names, data
    fingerprint).
    """
    return {
        "version": VERSION,
        "identity": identity,
        "network": _network_state(method.network),
        "teacher": None if method.teacher is None else _network_state(method.teacher),
        "extra": method.extra_state(),
        "memory": _memory_state(state.memory, source),
        "step_offset": state.step_offset,
        "records": [dataclasses.asdict(record) for record in state.records],
        "matrices": {
            protocol: {readout: matrix.to_plain() for readout, matrix in readouts.items()}
            for protocol, readouts in state.matrices.items()
        },
    }


def restore(payload: dict[str, Plain], method: Method, source: ImageSource) -> RunState:
    """The inverse of :func:`checkpoint_payload`: puts network, teacher and extra state into ``method``, which has not
    been used yet, and returns what the run knew. Nothing is grown or trained again.
    """
    method.network = restore_network(payload["network"])
    teacher = payload["teacher"]
    method.teacher = None if teacher is None else frozen_copy(restore_network(teacher))
    method.load_extra_state(payload["extra"])
    records = [
        TaskRecord(**{**record, "classes": tuple(record["classes"]), "names": tuple(record["names"])})
        for record in payload["records"]
    ]
    matrices = {
        protocol: {readout: AccuracyMatrix.from_plain(rows) for readout, rows in readouts.items()}
        for protocol, readouts in payload["matrices"].items()
    }
    return RunState(restore_memory(payload["memory"], source), payload["step_offset"], matrices, records)


def _memory_state(memory: RehearsalMemory, source: ImageSource) -> dict[str, Plain]:
    """The memory with stable keys in place of rows: files added to a folder move rows, not keys."""
    plain: dict[str, Plain] = memory.state()
    lists = [{label: [source.key(row) for row in rows] for label, rows in kept.items()} for kept in plain["lists"]]
    return {**plain, "lists": lists}


def restore_memory(payload: dict[str, Plain], source: ImageSource) -> RehearsalMemory:
    """A memory from its part of a checkpoint; ``ValueError`` names an image that is no longer there."""
    lists = [{label: [source.row(key) for key in keys] for label, keys in kept.items()} for kept in payload["lists"]]
    return RehearsalMemory.from_state({**payload, "lists": lists})


def _network_state(network: Network) -> dict[str, Plain]:
    return {"structure": network.structure(), "weights": {k: v.cpu() for k, v in network.state_dict().items()}}


def restore_network(payload: dict[str, Plain]) -> Network:
    """A network from its part of a checkpoint: rebuilt from its own description, loaded strictly."""
    network = build_network(payload["structure"], Key(0))
    network.load_state_dict(payload["weights"], strict=True)
    return network


def save_checkpoint(path: Path, payload: dict[str, Plain]) -> None:
    """Write ``payload`` so that at any instant ``path`` is the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save(payload, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def last_checkpoint(folder: Path) -> dict[str, Plain] | None:
    """The checkpoint of the last task in ``folder`` that can be read; None if there is none.

    One that cannot is told in a warning, and the one before it is taken.
    """
    for path in sorted(folder.glob("task_*.pt"), reverse=True):
        try:
            return load_checkpoint(path)
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
            log.warning("%s cannot be read (%s): going back to the one before", path, str(error).splitlines()[0])
    return None


def load_checkpoint(path: Path) -> dict[str, Plain]:
    """Read a checkpoint without running code from it; ``ValueError`` if it is of another version."""
    payload: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if payload.get("version") != VERSION:
        raise ValueError(
            f"{path} has format {payload.get('version')}, this program reads format {VERSION}: "
            "use the release that wrote it"
        )
    return payload
