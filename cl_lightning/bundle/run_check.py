"""A run that came in a bundle: all of its files are what export could have written, and agree with one another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cl_lightning.bundle.network_check import method_with_network
from cl_lightning.bundle.results_check import check_results
from cl_lightning.checkpoint.state import restored_state
from cl_lightning.checkpoint.state_schema import state_check
from cl_lightning.config.command_line.literals import kind_of_key
from cl_lightning.config.identity import refuse_edits
from cl_lightning.config.saved import load_learnt, to_plain
from cl_lightning.config.saved_file import read_configuration
from cl_lightning.config.schema import Config
from cl_lightning.config.schema.kinds import PATHS
from cl_lightning.core.json_schema import in_words
from cl_lightning.core.missing_keys import complete_checkpoint
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
}
"""Entries of the protocol that the configuration holds as they are."""
_ELSEWHERE = ("data.sets", "model.pretrained", "trainer.stop_after_task")
"""What is otherwise in a run whose weights are there already, and lists with paths in their entries."""


def check_run(folder: Path, payload: Any, kept: ExemplarStore) -> None:
    """Raise ``ValueError`` where ``payload`` is no state of a finished run, or where configuration, state, results and
    exemplars in ``folder`` are not of one run.
    """
    classes, tasks = len(kept.source.class_names), len(kept.sizes)
    state_check(classes, tasks)(payload, "its state")
    payload = complete_checkpoint(payload)
    config, identity = load_learnt(folder), payload["identity"]
    _check_as_saved(folder, config)
    _check_protocol(config, identity["protocol"])
    refuse_edits(identity.get("configuration"), to_plain(config), "its state")
    _check_kept(config, payload, kept)
    _check_files(folder / EXEMPLARS, kept)
    steps, learnt = sum(phase["steps"] for phase in payload["phases"]), {phase["task"] for phase in payload["phases"]}
    whole = learnt == set(range(tasks))  # earlier versions did not record them
    _check(steps == payload["step_offset"] if whole else steps <= payload["step_offset"], "its steps do not add up")
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
    check_results(folder, restored_state(payload, kept.source), identity["protocol"])
    if (folder / LISTING).is_file():
        parse_listing(folder / LISTING)


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _check_as_saved(folder: Path, config: Config) -> None:
    """The configuration is written as a run writes it: reading it changes no value, but for paths."""
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
    elif key not in _ELSEWHERE and kind_of_key(key) not in PATHS:
        same = type(saved) is type(in_force) or {type(saved), type(in_force)} == {int, float}
        _check(
            same and saved == in_force, f"{key}={in_words(saved)} in its config.yaml is {in_words(in_force)} in force"
        )


def _check_protocol(config: Config, protocol: Mapping[str, Any]) -> None:
    for name, of in _IN_FORCE.items():
        if name in protocol:
            same = type(protocol[name]) is type(of(config)) and protocol[name] == of(config)
            _check(same, f"its state is of a run with another {name} than its config.yaml")
        else:
            raise ValueError(f"its state does not say the {name} of the run")


def _check_kept(config: Config, payload: Mapping[str, Any], kept: ExemplarStore) -> None:
    """Raise ``ValueError`` where the state remembers other images, or knows other data, than lie beside it."""
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


def _check_files(folder: Path, kept: ExemplarStore) -> None:
    """There are the files of its exemplars, and no others."""
    source = kept.source
    expected = {*source.paths} if isinstance(source, FolderSource) else {PIXELS}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {INDEX}
    _check(found == expected, f"it has {len(found)} files of exemplars, and its index names {len(expected)}")
