"""Required form of a checkpoint, of a run that is finished or not.

A checksum says that a file is unaltered, not that this program wrote it. The form is looser than that of a bundle's
state (``state_schema.py``): files of earlier versions have it too.
"""

from __future__ import annotations

from typing import Any

from cl_lightning.checkpoint.files import VERSION
from cl_lightning.checkpoint.state_schema import (
    CLASS_COUNTS,
    COUNTS,
    PART,
    SEQUENCE,
    array,
    evaluation_check,
    extra_number,
    memory_check,
    phase_check,
    precision,
    record_check,
)
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

_NETWORK = record({"structure": mapping_of(plain), "weights": mapping_of(array)})
_IDENTITY = record(
    {
        "protocol": record({"method": text, "data": text, "model": text, "tasks": list_of(whole(1))}, more=True),
        "class_names": list_of(text),
        "order": list_of(whole()),
        "train_fingerprint": text,
        "fingerprints": list_of(text),
        "images": list_of(maybe(mapping_of(PART))),
        "configuration": mapping_of(plain),
    },
    optional=("fingerprints", "images", "configuration"),
    more=True,
)
_SETTING = either(maybe(number), text, one_of(True, False), list_of(number, kinds=SEQUENCE), array)
_OPTIMISER = record(
    {"state": mapping_of(mapping_of(_SETTING), key=whole()), "param_groups": list_of(mapping_of(_SETTING))}
)
_STOPPING = record(
    {
        "checks": whole(),
        "best": maybe(number),
        "best_check": whole(),
        "latest": maybe(number),
        "weights": mapping_of(array),
    }
)
_LEFT = record(
    {
        "steps": whole(1),
        "optimiser": _OPTIMISER,
        "precision": mapping_of(_SETTING),
        "stopping": maybe(_STOPPING),
    }
)


def check_state(payload: Any, where: str) -> None:
    """Raise ``ValueError`` if ``payload`` has not the form of a checkpoint."""
    record({"identity": _IDENTITY, "records": list_of(mapping_of(_anything))}, more=True)(payload, where)
    identity, done = payload["identity"], len(payload["records"])
    classes, sizes = len(identity["class_names"]), identity["protocol"]["tasks"]
    plain(identity["protocol"], f"{where}.identity.protocol")
    if sum(sizes) != classes or done > len(sizes):
        raise InvalidFileError(where, f"is of {done} tasks of {sizes} classes, and names {classes}"[:200])
    _state(classes, sizes, done)(payload, where)
    for index, task_record in enumerate(payload["records"]):
        first = sum(sizes[:index])
        if task_record["index"] != index or tuple(task_record["classes"]) != tuple(range(first, first + sizes[index])):
            raise InvalidFileError(f"{where}.records[{index}]", "is of other classes than its task")


def _anything(value: Any, where: str) -> None:
    """Accept any value: a later check looks at it."""


def _state(classes: int, sizes: list[int], done: int) -> Check:
    """Return the check of a run's state after so many of its tasks."""
    label, task, learning = whole(0, classes - 1), whole(0, len(sizes) - 1), done < len(sizes)
    return record(
        {
            "version": one_of(VERSION),
            "network": _NETWORK,
            "teacher": maybe(_NETWORK),
            "extra": mapping_of(either(maybe(extra_number), array)),
            "memory": memory_check(label),
            "step_offset": whole(),
            "records": list_of(record_check(task, label)),
            "cursor": record(
                {
                    "items": whole() if learning else one_of(0),
                    "left": maybe(_LEFT) if learning else one_of(None),
                    "images": whole(),
                    "fit_seconds": number,
                    "seconds": number,
                }
            ),
            "precisions": list_of(precision, kinds=SEQUENCE),
            "phases": list_of(phase_check(task)),
            "answers": maybe(record({"confusion": _counts_of_answers(2), "reliability": _counts_of_answers(3)})),
            "after_phases": list_of(evaluation_check(task)),
            "matrices": _matrices(done),
            "class_counts": CLASS_COUNTS,
            "commits": list_of(maybe(text)),
        },
        optional=("phases", "answers", "commits", "after_phases", "class_counts"),
        more=True,
    )


def _matrices(done: int) -> Check:
    """Return the check of the counts after so many tasks: for each protocol and read-out a row for each task, and one
    for the next task if that has been evaluated and not yet ended.
    """
    counts = mapping_of(mapping_of(list_of(COUNTS)), key=one_of(*PROTOCOLS))

    def checked(value: Any, where: str) -> None:
        counts(value, where)
        readouts = {tuple(of) for of in value.values()}
        if done and (len(readouts) != 1 or not next(iter(readouts))):
            raise InvalidFileError(where, "has not the same read-outs of each protocol")
        for of in value.values():
            for name, rows in of.items():
                if [len(row) for row in rows] != list(range(1, len(rows) + 1)) or len(rows) - done not in (0, 1):
                    raise InvalidFileError(f"{where}.{name[:40]!a}", "does not count each task learnt")

    return checked


def _counts_of_answers(dimensions: int) -> Check:
    def checked(value: Any, where: str) -> None:
        array(value, where)
        if value.dim() != dimensions or value.is_floating_point():
            raise InvalidFileError(where, "is no table of counts")

    return checked
