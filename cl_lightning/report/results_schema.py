"""The schema of ``results.json`` that pages and tables need: a run's folder may come from somebody else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cl_lightning.core.json_schema import list_of, mapping_of, maybe, number, one_of, record, text, whole
from cl_lightning.core.origins import ORIGINS

_SPEED = record({"index": whole(), "seconds": number, "images_per_second": number})
_PHASE = record({"task": whole(), "phase": text, "steps": whole(), "images": whole(), "seconds": number})
_PROVENANCE = {
    "commit": maybe(text),
    **dict.fromkeys(("command", "host", "device", "python", "started"), text),
    "versions": mapping_of(text),
    "seconds": number,
    "went_on_after_task": whole(),
    "went_on_at_step": whole(),
    **dict.fromkeys(("peak_memory", "peak_gpu_memory"), maybe(whole())),
    "disk": maybe(record({"checkpoints": whole(), "exemplars": maybe(whole())})),
    "tasks": list_of(_SPEED),
    "phases": list_of(_PHASE),
}
PROVENANCE = record(_PROVENANCE, optional=tuple(_PROVENANCE), more=True)
LEFT_OUT = list_of(record({"kind": text, "count": whole(1), "example": text}))
_EACH = mapping_of(mapping_of(maybe(number)))
_RESULTS = record(
    {
        "protocol": record(
            {
                **dict.fromkeys(("evaluation", "readout", "method", "data"), text),
                "origin": maybe(one_of(*ORIGINS)),
                "tasks": list_of(whole(1)),
            },
            optional=("origin",),
            more=True,
        ),
        "tasks": list_of(
            record(
                {
                    "index": whole(),
                    "classes": list_of(whole()),
                    "names": list_of(text),
                    "accuracy": _EACH,
                    "top5": _EACH,
                },
                optional=("top5",),
                more=True,
            )
        ),
        "accuracy_matrix": mapping_of(mapping_of(list_of(list_of(maybe(number))))),
        **dict.fromkeys(
            ("average_incremental_accuracy", "last_accuracy", "forgetting", "backward_transfer"), maybe(number)
        ),
        **dict.fromkeys(("forward_transfer", "last_macro_accuracy"), maybe(number)),
        "forward_transfer_reason": maybe(text),
        "macro_accuracy": maybe(mapping_of(mapping_of(list_of(maybe(number))))),
        "parameters": whole(),
        "costs": maybe(record({"multiply_adds": whole(), "multiply_adds_by_task": list_of(maybe(whole()))})),
        "phase_accuracy": list_of(record({"task": whole(), "phase": text, "accuracy": _EACH}, more=True)),
        "images": mapping_of(mapping_of(maybe(whole()))),
        "data_identity": mapping_of(maybe(text)),
        "equal_images": mapping_of(record({"images": whole(), "examples": list_of(list_of(text))}, more=True)),
        "left_out": LEFT_OUT,
        "notes": list_of(text),
        "provenance": PROVENANCE,
    },
    optional=(
        "costs",
        "phase_accuracy",
        "data_identity",
        "equal_images",
        "images",
        "left_out",
        "notes",
        "forward_transfer",
        "forward_transfer_reason",
        "last_macro_accuracy",
        "macro_accuracy",
    ),
    more=True,
)


def check_results_file(results: Any) -> None:
    """Raise ``ValueError`` where a page, or a table, could not be made of what ``results.json`` holds."""
    _RESULTS(results, "it")
    protocol, matrices, tasks = results["protocol"], results["accuracy_matrix"], results["tasks"]
    if protocol["readout"] not in matrices.get(protocol["evaluation"], {}):
        raise ValueError("it has no accuracies of its own evaluation and read-out")
    if not tasks or len(tasks) > len(protocol["tasks"]):
        raise ValueError(f"it has {len(tasks)} tasks of {len(protocol['tasks'])}")
    for index, task in enumerate(tasks):
        if task["index"] != index or len(task["names"]) != len(task["classes"]):
            raise ValueError(f"its task {index} is numbered otherwise, or lacks names")
        for name in ("accuracy", "top5"):
            if name in task and not _alike(task[name], matrices):
                raise ValueError(f"its task {index} has {name} of other read-outs than its accuracy matrix")
    for matrix in (matrix for readouts in matrices.values() for matrix in readouts.values()):
        if [len(row) for row in matrix] != list(range(1, len(tasks) + 1)):
            raise ValueError("it has an accuracy matrix of another size")
    for values in (values for of in (results.get("macro_accuracy") or {}).values() for values in of.values()):
        if len(values) != len(tasks):
            raise ValueError("it has a macro_accuracy of another number of tasks")


def _alike(one: Mapping[str, Mapping[str, Any]], other: Mapping[str, Mapping[str, Any]]) -> bool:
    """Return whether two mappings of protocol and read-out have the same keys."""
    return one.keys() == other.keys() and all(one[protocol].keys() == other[protocol].keys() for protocol in one)
