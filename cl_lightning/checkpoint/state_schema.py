"""Required form of the state in a bundle: that of a checkpoint of a finished run, as data."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cl_lightning.checkpoint.files import VERSION
from cl_lightning.core.errors import InvalidFileError
from cl_lightning.core.json_schema import (
    Check,
    either,
    list_of,
    mapping_of,
    maybe,
    number,
    one_of,
    plain,
    record,
    text,
    whole,
)
from cl_lightning.core.types import PROTOCOLS
from cl_lightning.metrics.confusion import BINS


def array(value: Any, where: str) -> None:
    """Raise ``ValueError`` unless the value is a dense tensor with storage for each of its numbers."""
    if not isinstance(value, Tensor):
        raise InvalidFileError(where, f"is a {type(value).__name__}, not a tensor")
    plain_kind = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
    if not plain_kind or value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise InvalidFileError(where, "is a tensor of another kind than this program saves")


def _tensor(dtype: torch.dtype | None = None, shape: tuple[int, ...] | None = None) -> Check:
    def checked(value: Any, where: str) -> None:
        array(value, where)
        if (dtype not in (None, value.dtype)) or (shape not in (None, tuple(value.shape))):
            raise InvalidFileError(
                where, f"is a tensor {tuple(value.shape)} {value.dtype}, not {shape or ''} {dtype or ''}"
            )
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InvalidFileError(where, "holds numbers that are not finite")

    return checked


_NETWORK = record({"structure": mapping_of(plain), "weights": mapping_of(_tensor())})
COUNTS = list_of(list_of(whole(), length=3, kinds=(list, tuple)), kinds=(list, tuple))
CLASS_COUNTS = mapping_of(
    mapping_of(list_of(maybe(list_of(list_of(whole(), length=2, kinds=(list, tuple)), kinds=(list, tuple))))),
    key=one_of(*PROTOCOLS),
)


def _counts_after_a_phase(value: Any, where: str) -> None:
    COUNTS(value, where)
    if not value:
        raise InvalidFileError(where, "counts no task")


ACCURACIES = mapping_of(mapping_of(_counts_after_a_phase))
SEQUENCE = (list, tuple)
PART = record({"digest": text, "images": mapping_of(whole())})
COSTS = ("multiply_adds", "peak_memory", "peak_gpu_memory")
"""Keys of a task's record that files of earlier versions lack."""
KEY = either(whole(-(2**63), 2**63 - 1), text)


def memory_check(label: Check) -> Check:
    """Return the check of a rehearsal memory, whose classes are ``label``."""
    return record(
        {
            "budget": record({"kind": one_of("total", "per_class", "none"), "size": whole()}),
            "scope": one_of("global", "per_replica"),
            "replicas": whole(1, 4096),
            "lists": list_of(mapping_of(list_of(KEY), key=label)),
            "held_share": number,
            "held_out": mapping_of(list_of(KEY), key=label),
        },
        optional=("held_share", "held_out"),
    )


def record_check(task: Check, label: Check) -> Check:
    """Return the check of the record of a finished task."""
    return record(
        {
            "index": task,
            "classes": list_of(label, kinds=SEQUENCE),
            "names": list_of(text, kinds=SEQUENCE),
            "seconds": number,
            "images_per_second": number,
            "parameters": whole(),
            **dict.fromkeys(COSTS, maybe(whole())),
        },
        optional=COSTS,
    )


def phase_check(task: Check) -> Check:
    """Return the check of the record of a finished phase."""
    return record({"task": task, "phase": text, "steps": whole(), "images": whole(), "seconds": number})


def evaluation_check(task: Check) -> Check:
    """Return the check of an evaluation after a phase."""
    return record({"task": task, "item": whole(), "phase": text, "counts": ACCURACIES})


def state_check(classes: int, tasks: int) -> Check:
    """Return the check of a finished run's state, of so many classes and tasks."""
    label, task = whole(0, classes - 1), whole(0, tasks - 1)
    return record(
        {
            "version": one_of(VERSION),
            "identity": record(
                {
                    "protocol": mapping_of(plain),
                    "class_names": list_of(text, classes),
                    "order": list_of(whole()),
                    "train_fingerprint": text,
                    "fingerprints": list_of(text),
                    "images": list_of(maybe(mapping_of(PART))),
                    "configuration": mapping_of(plain),
                },
                optional=("fingerprints", "images", "configuration"),
            ),
            "network": _NETWORK,
            "teacher": maybe(_NETWORK),
            "extra": mapping_of(either(maybe(extra_number), _tensor())),
            "memory": memory_check(label),
            "step_offset": whole(),
            "records": list_of(
                record_check(task, label),
                tasks,
            ),
            "cursor": record(
                {
                    "items": one_of(0),
                    "left": one_of(None),
                    "images": whole(),
                    "fit_seconds": number,
                    "seconds": number,
                }
            ),
            "precisions": list_of(precision, kinds=SEQUENCE),
            "phases": list_of(phase_check(task)),
            "answers": maybe(
                record(
                    {
                        "confusion": _tensor(torch.int64, (classes, classes)),
                        "reliability": _tensor(torch.int64, (2, BINS, 3)),
                    }
                )
            ),
            "after_phases": list_of(evaluation_check(task)),
            "matrices": mapping_of(mapping_of(list_of(COUNTS, tasks)), key=one_of(*PROTOCOLS)),
            "class_counts": CLASS_COUNTS,
            "commits": list_of(maybe(text)),
        },
        optional=("phases", "answers", "commits", "after_phases", "class_counts"),
    )


def extra_number(value: Any, where: str) -> None:
    """Raise ``ValueError`` unless the value is a number of a method's state, which may be a key of random draws."""
    whole(-(2**64), 2**64)(value, where)


def precision(value: Any, where: str) -> None:
    """Raise ``ValueError`` unless the value is a task, a phase and the precision of its training."""
    list_of(either(whole(), text), length=3, kinds=SEQUENCE)(value, where)
    whole()(value[0], f"{where}[0]")
    text(value[1], f"{where}[1]")
    text(value[2], f"{where}[2]")
