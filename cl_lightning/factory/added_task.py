"""From the configuration to the tasks of a run that adds one to a finished run.

A run that adds a task needs the exemplars of earlier tasks. It stores those images in ``exemplars/`` of its own folder,
so that neither the run before nor the old training data are needed once it has begun. Old tasks are evaluated on their
own test images where these are at hand, and on nothing where they are not.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from cl_lightning.checkpoint.state import RunState, evaluated_images, last_state, remembered, restore
from cl_lightning.config.early_stopping import evaluates_share
from cl_lightning.config.identity import refuse_edits
from cl_lightning.config.option_names import LEARNT
from cl_lightning.config.saved import load_saved
from cl_lightning.config.schema import Config, DataConfig
from cl_lightning.config.schema.added_task import LearntFolderConfig
from cl_lightning.core.errors import InvalidFileError, UserError, as_user_error, worded
from cl_lightning.core.types import Fit, View
from cl_lightning.data.scenarios.added_task import Part, extend, new_part
from cl_lightning.data.scenarios.image_identity import WORDS, Identity, identity_of
from cl_lightning.data.scenarios.image_list import LISTING, how_it_differs, is_listed, named, read_listing
from cl_lightning.data.scenarios.scenario import Scenario, split_scenario
from cl_lightning.data.sources.base import ArraySource, FolderSource
from cl_lightning.data.sources.datasets import ARRAY_CHANNELS, at_hand, load_sources, read_again
from cl_lightning.data.sources.exemplar_reading import read_exemplar_store
from cl_lightning.data.sources.exemplar_store import INDEX, ExemplarStore
from cl_lightning.factory.scenario import dataset_scenario, reading
from cl_lightning.memory.rehearsal import Budget
from cl_lightning.methods.base import Method

log = logging.getLogger(__name__)

EXEMPLARS = "exemplars"
"""Folder of a run with the exemplars of tasks learnt by a run before it."""


# ---- the added task -----------------------------------------------------------------------------------------------


def extended_scenario(config: Config) -> Scenario:
    """Return the tasks that the run before has learnt, and the one that ``config.extends`` adds.

    Raises:
        UserError: the folder's classes cannot be a task, or the exemplars are not there.
    """
    return _extended(config, evaluated=True)


def _extended(config: Config, *, evaluated: bool) -> Scenario:
    """Return the same; old test images are looked for only if ``evaluated``."""
    assert config.extends is not None
    store = inherited_exemplars(config)
    entry = config.extends.folders[-1]
    new = _folder_scenario(entry, config)
    tests, identities = _old_tests(config, store) if evaluated else ([], store.identities)
    store = dataclasses.replace(store, identities=identities)
    with worded(dataclasses.replace(LEARNT, entry=f"data.new={entry.folder}")):
        return extend(config.data.name, store, tests, new, allow_similar=entry.allow_similar)


def _folder_scenario(entry: LearntFolderConfig, config: Config) -> Scenario:
    """Return the folder's classes as the only task of a scenario of their own."""
    data, on_share = config.data, evaluates_share(config)
    with worded(LEARNT):
        train, test = load_sources(
            "image_folder", entry.folder, with_test=not on_share, **reading(entry, on_share), max_pixels=data.max_pixels
        )
        number = len(train.class_names)
        return split_scenario(
            entry.folder, train, test, order=range(number), increment=number, validation=data.validation,
            evaluate_share=on_share, image_size=data.image_size,
        )  # fmt: skip


# ---- old test images ---------------------------------------------------------------------------------------------


def _old_tests(config: Config, store: ExemplarStore) -> tuple[list[Part], tuple[Identity | None, ...]]:
    """Return the test images of earlier tasks that are at hand, and the identities of the images of all earlier tasks,
    as recorded, else as found now. A warning names the tasks that cannot be evaluated, and why.
    """
    assert config.extends is not None
    folders = config.extends.folders[:-1]
    bounds = list(accumulate(store.sizes, initial=0))
    first = len(store.sizes) - len(folders)  # tasks of the first run
    parts: list[Part] = []
    identities = list(store.identities)
    earlier = _EarlierImages(config, len(store.fingerprints) if None in store.identities else 0)
    for origin, fingerprint in enumerate(store.fingerprints):  # 0: the first run's data, else the folder of that number
        tasks = f"tasks 1 to {first}" if origin == 0 and first > 1 else f"task {first + origin if origin else 1}"
        try:
            if origin == 0:
                scenario = _first_data(config)
                part = Part(scenario.test, scenario.test_labels)
            else:
                scenario = _folder_scenario(folders[origin - 1], config)
                part = new_part(scenario.test, scenario.test_labels, bounds[first + origin - 1], first + origin)
            task = first + origin if origin else None
            if scenario.train.fingerprint != fingerprint:
                difference = how_it_differs(earlier.listings, scenario, task)
                raise UserError(difference or "other images than the run was trained on are there")
            identities[origin] = earlier.check(scenario, identities[origin], task)
            parts.append(part)
        except (UserError, OSError) as error:
            log.warning("%s will not be evaluated: %s", tasks, " ".join(str(error).split()))
    return parts, tuple(identities)


class _EarlierImages:
    """The record of the images that an extended run was evaluated on before."""

    def __init__(self, config: Config, unknown: int) -> None:
        assert config.extends is not None
        runs = [Path(config.run_dir), Path(config.extends.run)]
        self.listings = [run / LISTING for run in runs]
        found = (last_state(run / "checkpoints") for run in runs if unknown)
        payload = next(filter(None, found), None)
        self._totals = [] if payload is None else evaluated_images(payload[1])

    def check(self, scenario: Scenario, recorded: Identity | None, task: int | None) -> Identity:
        """Return the identity of the evaluated images of a data set, or of the folder learnt as ``task`` (from 1).

        Raises:
            UserError: it is not the recorded one; where none was recorded, the number of images is not.
        """
        now, part = identity_of(scenario), scenario.evaluates_on
        if recorded is None:
            first = 0 if task is None else task - 1
            counts = [len(own.test) for own in scenario.tasks]
            then = self._totals[first : first + len(counts)]
            if any(one and one != other for one, other in zip(then, counts, strict=False)):
                raise UserError(f"{sum(then)} {part} images were there, and {sum(counts)} are there now")
            return now
        if recorded[part]["digest"] != now[part]["digest"]:
            difference = how_it_differs(self.listings, scenario, task, only=part)
            raise UserError(difference or f"its {WORDS[part]} images are not those of then")
        return recorded


def _first_data(config: Config) -> Scenario:
    """Return the data set that the first run began with. Raises ``UserError`` if it is not at hand."""
    data = config.data
    if not at_hand(data.name, data.root):
        raise UserError(f"data.root={data.root} does not hold {data.name}")
    return dataset_scenario(data, evaluate_share=evaluates_share(config))


# ---- exemplars ---------------------------------------------------------------------------------------------------


def inherited_exemplars(config: Config) -> ExemplarStore:
    """Return the exemplars of earlier tasks for a run that adds one: its own copy, else those of the run before."""
    assert config.extends is not None
    own = Path(config.run_dir) / EXEMPLARS
    if (own / INDEX).is_file():
        store = read_exemplar_store(own)
        if len(store.fingerprints) > len(config.extends.folders):
            raise UserError(
                f"{config.run_dir} comes from a bundle, with the images that it remembers in the end and no others: "
                f"type learn={config.run_dir} data.new=FOLDER to teach it more"
            )
        return store
    before, payload = read_finished(Path(config.extends.run), "learn=")
    root = config.data.root  # may have been typed anew
    return exemplars_of(dataclasses.replace(before, data=dataclasses.replace(before.data, root=root)), payload)


def read_finished(run_dir: Path, word: str) -> tuple[Config, dict[str, Any]]:
    """Return configuration and last state of a finished run; ``word`` is what was typed before the folder.

    Raises ``UserError`` if it is not finished, or not of this version.
    """
    config = load_saved(run_dir, word=word)
    with as_user_error():
        found = last_state(run_dir / "checkpoints")
    tasks = 0 if found is None else len(found[1]["identity"]["protocol"]["tasks"])
    done = 0 if found is None else len(found[1]["records"])
    if found is None or done < tasks:
        of = f" ({done} of {tasks} tasks are learnt)" if tasks else ""
        raise UserError(f"{word}{run_dir} is not finished{of}: type resume={run_dir} first")
    with as_user_error():
        refuse_edits(found[1]["identity"].get("configuration"), dataclasses.asdict(config), f"{word}{run_dir}")
    return config, found[1]


def exemplars_of(config: Config, payload: dict[str, Any]) -> ExemplarStore:
    """Return the exemplars of a finished run as images: from its own copy, else from the data that it was trained on.

    Raises:
        UserError: neither is there.
    """
    if config.data.sets:
        raise UserError(
            f"{config.run_dir} is a run of data=sequence, whose images come from several places, so its exemplars "
            "cannot be bundled: take the folder of the run, and the data"
        )
    identity = payload["identity"]
    keys = _exemplar_keys(payload)
    names, sizes = tuple(identity["class_names"]), tuple(identity["protocol"]["tasks"])
    fingerprints = tuple(identity.get("fingerprints") or [identity["train_fingerprint"]])
    channels = ARRAY_CHANNELS.get(config.data.name, 3)
    own = Path(config.run_dir) / EXEMPLARS
    if (own / INDEX).is_file() and (store := read_exemplar_store(own)).sizes == sizes and store.holds(keys):
        source = store.source
    elif keys:
        source = _train_source(config, identity, list(keys))
    else:
        source = _empty_source(config.data, channels)
    rows = torch.tensor([source.row(key) for key in keys], dtype=torch.int64)
    labels = torch.tensor(list(keys.values()), dtype=torch.int64)
    chosen = dataclasses.replace(source.select(rows, EXEMPLARS), labels=labels, class_names=names)
    if isinstance(chosen, FolderSource):
        chosen = dataclasses.replace(chosen, keys=tuple(keys))
    return ExemplarStore(
        chosen, sizes, config.data.image_size, channels, fingerprints, tuple(identity.get("images") or ())
    )


def _exemplar_keys(payload: dict[str, Any]) -> dict[int | str, int]:
    """Return key -> global label of the images in the memory, of all replicas: classes ascending, best first."""
    return dict(remembered(payload["memory"]))


def _train_source(config: Config, identity: Mapping[str, Any], keys: Sequence[int | str]) -> ArraySource | FolderSource:
    """Return the training images of a run. Raises ``UserError`` if the exemplars ``keys`` among them have changed."""
    where = f"{config.run_dir} remembers images that are not here"
    mend = (
        "put its data back, type data.root=DIR beside learn=, or take it from a bundle (python -m cl_lightning.bundle)"
    )
    try:
        with read_again():  # for test images too, see _old_tests
            scenario = _first_data(config) if config.extends is None else _extended(config, evaluated=False)
    except (UserError, InvalidFileError, OSError) as error:
        raise UserError(f"{where} ({error}): {mend}") from error
    listings = [Path(config.run_dir) / LISTING]
    own, task = scenario.newest or scenario, None if scenario.newest is None else len(scenario.tasks)
    root = config.data.root if config.extends is None else config.extends.folders[-1].folder
    if scenario.train.fingerprint != identity["train_fingerprint"]:
        difference = how_it_differs(listings, own, task)
        between = ": " if difference else ""
        raise UserError(f"{where} (data.root={root} holds others than it was trained on{between}{difference}): {mend}")
    recorded, now = (identity.get("images") or [None])[-1], identity_of(own)
    if recorded is not None and recorded["train"]["digest"] != now["train"]["digest"]:
        difference = how_it_differs(listings, own, task, only="train") or "training images changed"
        listing = read_listing(listings[0])
        changed = [str(key) for key in keys if not is_listed(listing, scenario.train, key)]
        if changed:
            raise UserError(f"{where} (data.root={root}: {difference}; it remembers {named(changed)}): {mend}")
        log.info("%s: %s; the run remembers none of them", root, difference)
    assert isinstance(scenario.train, ArraySource | FolderSource)
    return scenario.train


def _empty_source(data: DataConfig, channels: int) -> ArraySource | FolderSource:
    none = torch.empty(0, dtype=torch.int64)
    if data.name in ARRAY_CHANNELS:
        pixels = torch.empty(0, channels, data.image_size, data.image_size, dtype=torch.uint8)
        return ArraySource(EXEMPLARS, pixels, none, (), ())
    return FolderSource(EXEMPLARS, Path("/"), (), none, (), ())


# ---- the state of the run before ------------------------------------------------------------------------------


def inherited_state(config: Config, method: Method, scenario: Scenario) -> RunState:
    """Return the state of the run that ``config`` extends; ``method`` gets its networks.

    Raises:
        UserError: the method needs all images of old tasks.
    """
    assert config.extends is not None
    for item in method.plan(scenario.tasks[-1]):
        if isinstance(item, Fit) and item.phase.view is View.CUMULATIVE:
            raise UserError(
                f"method={config.method.name} trains on all images of all tasks, and a run keeps only its exemplars: "
                "type learn= with a run of another method, or start a new run on all images"
            )
    _, payload = read_finished(Path(config.extends.run), "learn=")
    state = restore(payload, method, scenario.train)
    budget = Budget(config.memory.budget, config.memory.size)
    state.memory = dataclasses.replace(state.memory, budget=budget)
    return state
