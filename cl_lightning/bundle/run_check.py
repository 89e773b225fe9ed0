"""A run that came in a bundle: all of its files are what export could have written, and agree with one another."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cl_lightning.bundle.network_check import method_with_network
from cl_lightning.bundle.state_schema import state_check
from cl_lightning.config.saved import load_learnt
from cl_lightning.config.schema import Config
from cl_lightning.data.kept import Kept
from cl_lightning.data.listing import LISTING, parse_listing
from cl_lightning.data.scenario import without_images
from cl_lightning.missing_keys import complete_checkpoint, complete_protocol
from cl_lightning.plain_schema import list_of, mapping_of, plain, read_json, record, text
from cl_lightning.report.results import build_results, finite, matrix_csv
from cl_lightning.state import RunState, restored_state

_RESULTS = record(
    {
        "protocol": record({"evaluation": text, "readout": text}, more=True),
        "tasks": list_of(mapping_of(plain)),
        "notes": list_of(text),
        "provenance": mapping_of(plain),
    },
    optional=("notes",),
    more=True,
)
_IN_FORCE = {
    "method": lambda config: config.method.name,
    "data": lambda config: config.data.name,
    "model": lambda config: config.model.name,
    "memory_scope": lambda config: config.memory.scope,
    "recipe": lambda config: config.recipe.name,
    "replicas": lambda config: config.batch.replicas,
    "batch": lambda config: config.batch.size,
    "seed": lambda config: config.seed,
}
"""Entries of the protocol that the configuration holds as they are."""


def check_run(folder: Path, payload: Any, kept: Kept) -> None:
    """Raise ``ValueError`` where ``payload`` is no state of a finished run, or where configuration, state, results and
    exemplars in ``folder`` are not of one run.
    """
    classes, tasks = len(kept.source.class_names), len(kept.sizes)
    state_check(classes, tasks)(payload, "its state")
    payload = complete_checkpoint(payload)
    config, identity = load_learnt(folder), payload["identity"]
    _check_protocol(config, identity["protocol"])
    _check_kept(config, payload, kept)
    scenario = without_images(
        config.data.name, kept.source.class_names, kept.sizes, config.data.image_size, kept.channels
    )
    for task, found in zip(scenario.tasks, payload["records"], strict=True):
        same = (found["index"], tuple(found["classes"]), tuple(found["names"])) == (
            task.index,
            task.classes,
            task.names,
        )
        _check(same, f"its record of task {task.index + 1} is of other classes")
    method = method_with_network(config, scenario, payload)
    method.load_extra_state(payload["extra"])
    for name, tensor in payload["extra"].items():
        if name == "class_means":
            _check(len(tensor) == classes, f"its state has class means of {len(tensor)} classes, not {classes}")
    _check_results(folder, restored_state(payload, kept.source), identity["protocol"])
    if (folder / LISTING).is_file():
        parse_listing(folder / LISTING)


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _check_protocol(config: Config, protocol: Mapping[str, Any]) -> None:
    for name, of in _IN_FORCE.items():
        if name in protocol:
            same = type(protocol[name]) is type(of(config)) and protocol[name] == of(config)
            _check(same, f"its state is of a run with another {name} than its config.yaml")
        else:
            raise ValueError(f"its state does not say the {name} of the run")


def _check_kept(config: Config, payload: Mapping[str, Any], kept: Kept) -> None:
    """What the run remembers, and what of its data is known, is the same in its state and beside its exemplars."""
    identity, source = payload["identity"], kept.source
    remembered = [(key, label) for lists in payload["memory"]["lists"] for label, keys in lists.items() for key in keys]
    here = {source.key(row): label for row, label in enumerate(source.labels.tolist())}
    _check(kept.image_size == config.data.image_size, "its exemplars are of another size than data.image_size")
    _check(dict(remembered) == here and set(remembered) == set(here.items()), "it remembers other images than it has")
    _check(identity["class_names"] == list(source.class_names), "its state has other class names than its exemplars")
    _check(identity["protocol"].get("tasks") == list(kept.sizes), "its state has other tasks than its exemplars")
    fingerprints = identity.get("fingerprints") or [identity["train_fingerprint"]]
    _check(list(kept.fingerprints) == fingerprints, "its state has other fingerprints than its exemplars")
    if identity.get("images"):
        _check(list(kept.identities) == identity["images"], "its state has other identities than its exemplars")


def _check_results(folder: Path, state: RunState, protocol: Mapping[str, Any]) -> None:
    """The numbers are those of the counts in the state."""
    written = read_json((folder / "results.json").read_bytes(), "results.json")
    _RESULTS(written, "results.json")
    shown = written["protocol"]
    _check(bool(state.matrices), "its state has no accuracies")
    _check(next(iter(state.matrices)) == shown["evaluation"], "its results are of another evaluation than its state")
    made = build_results(
        protocol, state.records, state.matrices, shown["readout"], state.records[-1].parameters, {},
        after_phases=state.after_phases,
    )  # fmt: skip
    made = json.loads(json.dumps(finite(made)))
    completed = complete_protocol(shown)
    for name, value in made.pop("protocol").items():
        _check(completed.get(name, value) == value, f"its results.json has another {name} than its state")
    for name in ("provenance", "notes"):
        made.pop(name)
    for name, value in made.items():
        _check(name in written, f"results.json has no {name}")
        _check(_agrees(value, written[name]), f"{name} in its results.json is not that of the counts in its state")
    csv = (folder / "accuracy_matrix.csv").read_bytes()
    _check(csv == matrix_csv(state.matrices).encode(), "accuracy_matrix.csv is not that of the counts in its state")


def _agrees(made: Any, written: Any) -> bool:
    """Return whether two values are the same, but for keys that one of two versions does not write."""
    if isinstance(made, dict) and isinstance(written, dict):
        return all(_agrees(value, written[key]) for key, value in made.items() if key in written)
    if isinstance(made, list) and isinstance(written, list):
        return len(made) == len(written) and all(map(_agrees, made, written))
    return type(made) is type(written) and made == written
