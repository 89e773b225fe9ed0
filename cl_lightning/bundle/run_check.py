"""The check of a run from a bundle: its files are what export could have written, and agree with one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cl_lightning.bundle.network_check import method_with_network
from cl_lightning.bundle.results_check import check_results
from cl_lightning.checkpoint.state import remembered, restored_state
from cl_lightning.checkpoint.state_schema import state_check
from cl_lightning.config.command_line.literals import kind_of_key
from cl_lightning.config.identity import refuse_edits
from cl_lightning.config.origin import origin_of
from cl_lightning.config.preprocess import preprocess_text
from cl_lightning.config.saved import load_learnt, to_plain
from cl_lightning.config.saved_file import read_configuration
from cl_lightning.config.schema import Config
from cl_lightning.config.schema.path_options import PATHS
from cl_lightning.core.json_schema import in_words
from cl_lightning.core.missing_keys import complete_checkpoint
from cl_lightning.core.types import HoldOut, PlanItem
from cl_lightning.data.scenarios.image_list import LISTING, parse_listing
from cl_lightning.data.scenarios.scenario import without_images
from cl_lightning.data.sources.base import FolderSource
from cl_lightning.data.sources.exemplar_store import INDEX, PIXELS, ExemplarStore
from cl_lightning.factory.added_task import EXEMPLARS

_IN_FORCE = {
    "method": lambda config: config.method.name,
    "data": lambda config: config.data.name,
    "model": lambda config: config.model.name,
    "memory_scope": lambda config: config.memory.scope,
    "recipe": lambda config: config.recipe.name,
    "replicas": lambda config: config.batch.replicas,
    "batch": lambda config: config.batch.size,
    "seed": lambda config: config.seed,
    "preprocess": lambda config: preprocess_text(config.data),
}
"""Entries of the protocol that equal a value of the configuration."""
_MAY_DIFFER = ("data.sets", "model.pretrained", "trainer.stop_after_task")
"""Keys that may differ: those of no account once weights are stored, and lists with paths in their entries."""


def check_run(folder: Path, payload: Any, store: ExemplarStore) -> None:
    """Raise ``ValueError`` where ``payload`` is no state of a finished run, or where configuration, state, results and
    exemplars in ``folder`` are not of one run.
    """
    classes, tasks = len(store.source.class_names), len(store.sizes)
    state_check(classes, tasks)(payload, "its state")
    said = payload["identity"]["protocol"].get("origin")
    payload = complete_checkpoint(payload)
    config, identity = load_learnt(folder), payload["identity"]
    _check_as_saved(folder, config)
    protocol = {**identity["protocol"], "origin": origin_of(config)}
    _check(said in (None, protocol["origin"]), "its state is of a run with another origin than its config.yaml")
    _check_protocol(config, protocol)
    refuse_edits(identity.get("configuration"), to_plain(config), "its state")
    _check_exemplars(config, payload, store)
    _check_files(folder / EXEMPLARS, store)
    steps, learnt = sum(phase["steps"] for phase in payload["phases"]), {phase["task"] for phase in payload["phases"]}
    whole = learnt == set(range(tasks))  # earlier versions did not record them
    _check(steps == payload["step_offset"] if whole else steps <= payload["step_offset"], "its steps do not add up")
    scenario = without_images(
        config.data.name, store.source.class_names, store.sizes, config.data.preprocess.size, store.channels
    )
    for task, recorded in zip(scenario.tasks, payload["records"], strict=True):
        same = (recorded["index"], tuple(recorded["classes"]), tuple(recorded["names"])) == (
            task.index,
            task.classes,
            task.names,
        )
        _check(same, f"its record of task {task.index + 1} is of other classes")
    method = method_with_network(config, scenario, payload)
    _check_held_out(payload["memory"], method.plan(scenario.tasks[-1]), classes)
    method.load_extra_state(payload["extra"])
    for name, tensor in payload["extra"].items():
        if name == "class_means":
            _check(len(tensor) == classes, f"its state has class means of {len(tensor)} classes, not {classes}")
    check_results(folder, restored_state(payload, store.source), protocol)
    if (folder / LISTING).is_file():
        parse_listing(folder / LISTING)


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def _check_as_saved(folder: Path, config: Config) -> None:
    """Raise ``ValueError`` unless ``config.yaml`` is as a run writes it: reading it changes no value but paths."""
    saved, in_force = read_configuration(folder / "config.yaml"), to_plain(config)
    apart = {"run_dir", "verbose", "extends"}
    for group, value in saved.items():
        if group not in apart and group in in_force:
            _check_same(value, in_force[group], group)


def _check_same(saved: Any, in_force: Any, key: str) -> None:
    if isinstance(saved, dict) and isinstance(in_force, dict):
        for name, value in saved.items():
            if name in in_force:
                _check_same(value, in_force[name], f"{key}.{name}")
    elif key not in _MAY_DIFFER and kind_of_key(key) not in PATHS:
        same = type(saved) is type(in_force) or {type(saved), type(in_force)} == {int, float}
        _check(
            same and saved == in_force, f"{key}={in_words(saved)} in its config.yaml is {in_words(in_force)} in force"
        )


def _check_protocol(config: Config, protocol: Mapping[str, Any]) -> None:
    for name, value_in in _IN_FORCE.items():
        if name in protocol:
            same = type(protocol[name]) is type(value_in(config)) and protocol[name] == value_in(config)
            _check(same, f"its state is of a run with another {name} than its config.yaml")
        else:
            raise ValueError(f"its state does not say the {name} of the run")


def _check_exemplars(config: Config, payload: Mapping[str, Any], store: ExemplarStore) -> None:
    """Raise ``ValueError`` where the state has other exemplars, or other data, than the store."""
    identity, source = payload["identity"], store.source
    images = remembered(payload["memory"])
    stored = {source.key(row): label for row, label in enumerate(source.labels.tolist())}
    _check(store.image_size == config.data.image_size, "its exemplars are of another size than data.image_size")
    _check(dict(images) == stored and set(images) == set(stored.items()), "it remembers other images than it has")
    _check(identity["class_names"] == list(source.class_names), "its state has other class names than its exemplars")
    _check(identity["protocol"].get("tasks") == list(store.sizes), "its state has other tasks than its exemplars")
    fingerprints = identity.get("fingerprints") or [identity["train_fingerprint"]]
    _check(list(store.fingerprints) == fingerprints, "its state has other fingerprints than its exemplars")
    if identity.get("images"):
        _check(list(store.identities) == identity["images"], "its state has other identities than its exemplars")


def _check_held_out(memory: Mapping[str, Any], plan: Sequence[PlanItem], classes: int) -> None:
    """Raise ``ValueError`` unless as large a share is held out of training as the method says, of each class some."""
    shares = [item.share for item in plan if isinstance(item, HoldOut)] or [0.0]
    _check([memory.get("held_share", 0.0)] == shares, "its state holds out another share than its config.yaml says")
    held = [label for label, keys in memory.get("held_out", {}).items() if keys]
    _check(sorted(held) == list(range(classes if shares[0] else 0)), "not of each of its classes an image is held out")


def _check_files(folder: Path, store: ExemplarStore) -> None:
    """Raise ``ValueError`` unless the folder has the files of its exemplars, and no others."""
    source = store.source
    expected = {*source.paths} if isinstance(source, FolderSource) else {PIXELS}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {INDEX}
    _check(found == expected, f"it has {len(found)} files of exemplars, and its index names {len(expected)}")
