"""The check of a bundle's ``results.json`` and ``accuracy_matrix.csv``: they agree with the counts in its state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cl_lightning.checkpoint.state import RunState
from cl_lightning.core.json_schema import list_of, mapping_of, maybe, plain, read_json, record, text
from cl_lightning.core.missing_keys import complete_protocol
from cl_lightning.report.results import build_results, finite, matrix_csv
from cl_lightning.report.results_schema import LEFT_OUT, PROVENANCE, check_results_file

_NOT_IN_STATE: dict[str, Any] = {
    "data_identity": mapping_of(maybe(text)),
    "images": mapping_of(plain),
    "equal_images": mapping_of(plain),
    "forward_transfer_reason": maybe(text),
    "left_out": LEFT_OUT,
    "notes": list_of(text),
    "provenance": PROVENANCE,
}
"""Entries of results that the state does not have, or has in another form."""
_ADDED_TO_PROTOCOL = {"precision": text, "precision_of_phases": list_of(text), "evaluation_folder": text}
"""Entries of the results' protocol that the state's lacks."""


def check_results(folder: Path, state: RunState, protocol: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` where ``results.json`` and ``accuracy_matrix.csv`` are not those of the run."""
    written = read_json((folder / "results.json").read_bytes(), "results.json")
    record(
        {"protocol": record({"evaluation": text, "readout": text}, more=True), **_NOT_IN_STATE},
        _NOT_IN_STATE,
        more=True,
    )(written, "results.json")
    check_results_file(written)
    stated = written["protocol"]
    if not state.matrices or next(iter(state.matrices)) != stated["evaluation"]:
        raise ValueError("its results are of another evaluation than its state")
    parameters = state.records[-1].parameters
    made = build_results(
        protocol, state.records, state.matrices, stated["readout"], parameters, {}, after_phases=state.after_phases,
        class_counts=state.class_counts,
    )  # fmt: skip
    made = json.loads(json.dumps(finite(made)))
    known = stated if "origin" in stated else {**stated, "origin": protocol["origin"]}
    _check_protocol(complete_protocol(known), made.pop("protocol"), state)
    for name in {**made, **written}:
        unknown = name not in made  # also where its value is null
        if name not in ("protocol", *_NOT_IN_STATE) and (unknown or not _same(made.get(name), written.get(name))):
            raise ValueError(f"{name[:40]!a} in its results.json is not that of the counts in its state")
    if (folder / "accuracy_matrix.csv").read_bytes() != matrix_csv(state.matrices).encode():
        raise ValueError("its accuracy_matrix.csv is not that of the counts in its state")


def _check_protocol(stated: Mapping[str, Any], made: Mapping[str, Any], state: RunState) -> None:
    for name in {**made, **stated}:
        if name in _ADDED_TO_PROTOCOL and name in stated:
            _ADDED_TO_PROTOCOL[name](stated[name], f"protocol.{name} of results.json")
        elif name not in made or not _same(made.get(name), stated.get(name)):
            raise ValueError(f"its results.json has another {name[:40]!a} than its state")
    used = list(dict.fromkeys(precision for _, _, precision in state.precisions))
    if used and stated.get("precision") != ", then ".join(used):
        raise ValueError("its results.json has another precision than its state")


def _same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, 1, 1.0 and true being three."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
