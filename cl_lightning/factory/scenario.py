"""From the configuration to the tasks of a data set, or of several that follow one another."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from cl_lightning.config.schema import Config, DataConfig, SetConfig
from cl_lightning.config.schema.added_task import LearntFolderConfig
from cl_lightning.data.scenarios.class_orders import class_order
from cl_lightning.data.scenarios.multi_dataset import DatasetTasks, concat_scenarios, of_classes
from cl_lightning.data.scenarios.scenario import Scenario, task_sizes
from cl_lightning.data.scenarios.scenario import split_scenario as cut_scenario
from cl_lightning.data.sources.names import nfc
from cl_lightning.data.sources.readers import ARRAY_CHANNELS, FOLDERS, Sources, at_hand, load_sources


def dataset_scenario(data: DataConfig) -> Scenario:
    """The tasks of a data set, or of several that follow one another."""
    return _chained(data) if data.sets else _cut(data)


def _cut(data: DataConfig) -> Scenario:
    train, test = load_sources(
        data.name, data.root, with_test=not data.validation, **reading(data), max_pixels=data.max_pixels
    )
    scenario = cut_scenario(
        data.name,
        train,
        test,
        order=_classes(data.name, data.order, data.classes, train.class_names),
        increment=data.increment,
        initial=data.initial,
        validation=data.validation,
        image_size=data.image_size,
    )
    if scenario.image_size != data.image_size:
        raise ValueError(
            f"data.image_size={data.image_size} but the images of {data.name} have {scenario.image_size} pixels: "
            f"type data.image_size={scenario.image_size}"
        )
    return scenario


def reading(given: DataConfig | SetConfig | LearntFolderConfig) -> dict[str, Any]:
    """Return how a data set in files is read, as options of ``load_sources``."""
    names = ("evaluate_on", "test_share", "test_split", "files", "on_broken", "orientation")
    return {name: getattr(given, name) for name in names}


def _classes(name: str, order: Any, number: int | None, class_names: Sequence[str]) -> tuple[int, ...]:
    """The classes to learn, in order of arrival."""
    available = len(class_names)
    if number is not None and not 1 <= number <= available:
        raise ValueError(
            f"data.classes={number} is not among the {available} classes of {name}: "
            f"type data.classes=1 to {available}, or data.classes=null"
        )
    return class_order(name, order, available, class_names)[:number]


# ---- several data sets -------------------------------------------------------------------------------------------


def _chained(data: DataConfig) -> Scenario:
    read = cache(partial(load_sources, with_test=not data.validation))  # a set may be in several entries
    links = []
    for place, entry in enumerate(data.sets, start=1):
        try:
            links.append(_link(entry, data, read))
        except ValueError as error:
            said = _OF_AN_ENTRY.sub(lambda found: found[1] + (": " if found[2] else ""), str(error))
            raise ValueError(f"data.sets, entry {place} ({entry.name}): {said}") from error
    return concat_scenarios(data.name, links, image_size=data.image_size, validation=data.validation)


_OF_AN_ENTRY = re.compile(rf"\bdata\.({'|'.join(field.name for field in dataclasses.fields(SetConfig))})\b(=?)")
"""What is said of a data set on its own, and would be typed within an entry here."""


def _link(entry: SetConfig, data: DataConfig, read: Callable[..., Sources]) -> DatasetTasks:
    train, test = read(entry.name, _root(entry, data), **reading(entry), max_pixels=data.max_pixels)
    order = _selected(entry, train.class_names)
    sizes = task_sizes(entry.name, len(order), len(order) if entry.increment is None else entry.increment)
    parts = of_classes(train, order), None if test is None else of_classes(test, order)
    return DatasetTasks(entry.name, *parts, sizes)


def _root(entry: SetConfig, data: DataConfig) -> str | None:
    """Sets that have a folder of their own below their root may share ``data.root``."""
    return entry.root if entry.root is not None or entry.name not in FOLDERS else data.root


def _selected(entry: SetConfig, class_names: tuple[str, ...]) -> tuple[int, ...]:
    if entry.select is None:
        return _classes(entry.name, entry.order, entry.classes, class_names)
    selected, place = [nfc(name) for name in entry.select], {nfc(name): own for own, name in enumerate(class_names)}
    for name in selected:
        if name not in place:
            near = difflib.get_close_matches(name, class_names, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ValueError(f"data.select has {name}, no class of it{hint}: type data.select=[{class_names[0]}, ...]")
        if selected.count(name) > 1:
            raise ValueError(f"data.select has {name} more than once: name each class once")
    if not entry.select:
        raise ValueError(f"data.select=[] names no class: type data.select=[{class_names[0]}, ...], or leave it out")
    return tuple(place[name] for name in selected)


def only_arrays(data: DataConfig) -> bool:
    """Return whether no image is in a file: pictures from elsewhere are then seen whole, and not cut as files are."""
    return all(name in ARRAY_CHANNELS for name in [entry.name for entry in data.sets] or [data.name])


def orientation(config: Config) -> str:
    """``apply`` or ``ignore``: what is done with the EXIF orientation of pictures from elsewhere. That of the run's
    own; arrays have none, so that of the folder that was learnt last counts there.
    """
    if config.extends is not None:
        return config.extends.folders[-1].orientation
    if config.data.sets:
        return "apply" if any(entry.orientation == "apply" for entry in config.data.sets) else "ignore"
    return config.data.orientation


def all_at_hand(data: DataConfig) -> bool:
    """Return whether the data could be read without a download."""
    if data.sets:
        return all(at_hand(entry.name, _root(entry, data)) for entry in data.sets)
    return at_hand(data.name, data.root)
