"""The report on a finished task or phase: a log line, and scalars for the curves."""

from __future__ import annotations

from collections.abc import Mapping

from cl_lightning.core.types import TASK_INCREMENTAL, Plain
from cl_lightning.report.macro import macro_after_tasks
from cl_lightning.report.results import PhaseAccuracy


def task_scalars(results: Mapping[str, Plain]) -> dict[str, float]:
    """Return the scalars of the last task in ``results``: accuracies by protocol and read-out, and metrics of them."""
    last = results["tasks"][-1]
    scalars = {"accuracy": results["last_accuracy"]}
    scalars |= {name: results[name] for name in ("average_incremental_accuracy", "forgetting", "backward_transfer")}
    scalars |= _by_name("accuracy", last["accuracy"])
    scalars["macro_accuracy"] = results.get("last_macro_accuracy")
    macro = {p: {name: macro_after_tasks(results, p, name)[-1] for name in of} for p, of in last["accuracy"].items()}
    scalars |= _by_name("macro_accuracy", macro)
    return {name: value for name, value in scalars.items() if value is not None}


def phase_scalars(entry: PhaseAccuracy) -> dict[str, float]:
    """Return the accuracies on all classes seen, by protocol and read-out."""
    return {
        name: value for name, value in _by_name("accuracy", entry.to_results()["accuracy"]).items() if value is not None
    }


def _by_name(metric: str, values: Mapping[str, Mapping[str, float | None]]) -> dict[str, float | None]:
    return {f"{metric}/{p}/{name}": value for p, readouts in values.items() for name, value in readouts.items()}


def task_line(results: Mapping[str, Plain], num_tasks: int) -> str:
    """Return the log line on the accuracy after the last task in ``results``."""
    protocol = results["protocol"]
    newest = results["accuracy_matrix"][protocol["evaluation"]][protocol["readout"]][-1][-1]
    measured = _measured(results["last_accuracy"], newest, protocol["evaluation"])
    return f"after task {len(results['tasks'])}/{num_tasks}: {measured}"


def phase_line(entry: PhaseAccuracy, main_readout: str, num_tasks: int) -> str:
    """Return the log line after a phase: main protocol, the method's first read-out that existed by then, named if
    it is not ``main_readout``.
    """
    results = entry.to_results()
    protocol, readouts = next(iter(results["accuracy"].items()))
    readout, seen = next(iter(readouts.items()))
    measured = _measured(seen, results["accuracy_by_task"][protocol][readout][-1], protocol)
    by = "" if readout == main_readout else f" (read-out {readout})"
    return f"after phase {entry.phase} of task {entry.task + 1}/{num_tasks}: {measured}{by}"


def _measured(seen: float | None, newest: float, protocol: str) -> str:
    if seen is None:
        return f"{100 * newest:.1f} % of its own classes; tasks without test images were not evaluated"
    protocol_note = ", the task being told" if protocol == TASK_INCREMENTAL else ""
    return f"{100 * seen:.1f} % of all classes seen so far{protocol_note}"
