"""The state of a small run of two tasks, as plain values, and what is changed in it."""

from __future__ import annotations

import copy
from typing import Any

import torch

from cl_lightning.checkpoint.files import VERSION
from cl_lightning.core.types import PROTOCOLS
from cl_lightning.metrics.confusion import BINS

SIZES = [2, 1]
NETWORK = {"structure": {"kind": "toy", "classes": [2, 1]}, "weights": {"head": torch.zeros(3, 4)}}


def task_record(index: int, classes: list[int]) -> dict[str, Any]:
    return {
        "index": index, "classes": classes, "names": [f"class {label}" for label in classes], "seconds": 1.5,
        "images_per_second": 30.0, "parameters": 12, "multiply_adds": 96, "peak_memory": 1 << 20,
        "peak_gpu_memory": None,
    }  # fmt: skip


def rows(done: int) -> list[Any]:
    """Counts (correct, of all, ...) of each task after each task."""
    return [[[1, 2, 0]] * (index + 1) for index in range(done)]


def class_rows(done: int) -> list[Any]:
    """(correct, of all) of each class seen after each task."""
    return [[[0, 0], [1, 1]], [[0, 0], [1, 1], [1, 2]]][:done]


def state(done: int = 2) -> dict[str, Any]:
    """The state of a run of two tasks after so many of them."""
    return {
        "version": VERSION,
        "identity": {
            "protocol": {"method": "dytox", "data": "toy", "model": "convit_tiny", "tasks": SIZES},
            "class_names": ["a", "b", "c"],
            "order": [2, 0, 1],
            "train_fingerprint": "ab",
        },
        "network": copy.deepcopy(NETWORK),
        "teacher": None,
        "extra": {"key": 2**63, "means": torch.zeros(2)},
        "memory": {
            "budget": {"kind": "total", "size": 3}, "scope": "global", "replicas": 1,
            "lists": [{0: [5, "x/1.png"], 1: [7]}],
        },
        "step_offset": 40,
        "records": [task_record(0, [0, 1]), task_record(1, [2])][:done],
        "cursor": {"items": 0, "left": None, "images": 0, "fit_seconds": 0.0, "seconds": 0.0},
        "precisions": [(0, "main", "32-true")],
        "phases": [{"task": 0, "phase": "main", "steps": 3, "images": 12, "seconds": 0.5}],
        "answers": {
            "confusion": torch.zeros(3, 3, dtype=torch.int64),
            "reliability": torch.zeros(2, BINS, 3, dtype=torch.int64),
        },
        "after_phases": [
            {"task": 0, "item": 1, "phase": "main", "counts": {PROTOCOLS[0]: {"linear": [[1, 2, 0]]}}}
        ],
        "class_counts": {protocol: {"linear": class_rows(done)} for protocol in PROTOCOLS},
        "matrices": {protocol: {"linear": rows(done)} for protocol in PROTOCOLS},
        "commits": ["abc", None],
    }  # fmt: skip


def within(done: int = 1) -> dict[str, Any]:
    """The same in the middle of a phase."""
    made = state(done)
    optimiser = {"state": {0: {"step": 3.0, "exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 0.1, "betas": (0, 1)}]}
    stopping = {"checks": 3, "best": 0.5, "best_check": 2, "latest": 0.4, "weights": {"weight": torch.zeros(2, 3)}}
    left = {"steps": 7, "optimiser": optimiser, "precision": {"scale": 2.0}, "stopping": stopping}
    made["cursor"] |= {"items": 1, "left": left}
    return made


def changed(made: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The value of ``path`` (``memory.scope``) replaced; ``...`` takes the key away."""
    *parents, last = path.split(".")
    inner: Any = made
    for name in parents:
        inner = inner[int(name) if isinstance(inner, list) else name]
    if value is ...:
        del inner[last]
    else:
        inner[int(last) if isinstance(inner, list) else last] = value
    return made
