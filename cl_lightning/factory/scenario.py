"""From the configuration to the tasks of a data set, or of several that follow one another."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from cl_lightning.config.option_names import DATA, of_entry
from cl_lightning.config.schema import Config, DataConfig, SetConfig
from cl_lightning.config.schema.added_task import LearntFolderConfig
from cl_lightning.core.errors import NOT_GIVEN, InvalidSettingError, worded
from cl_lightning.data.scenarios.class_orders import class_order
from cl_lightning.data.scenarios.multi_dataset import DatasetTasks, concat_scenarios, of_classes
from cl_lightning.data.scenarios.scenario import Scenario, split_scenario, task_sizes
from cl_lightning.data.sources.datasets import ARRAY_CHANNELS, FOLDERS, Sources, at_hand, load_sources
from cl_lightning.data.sources.unicode_names import nfc


def dataset_scenario(data: DataConfig, *, evaluate_share: bool = True) -> Scenario:
    """Return the tasks of a data set, or of several that follow one another. With ``evaluate_share``, images that
    ``data.validation`` sets aside are evaluated on, and test images not even read. Raises ``UserError`` if it has none.
    """
    on_share = data.validation > 0 and evaluate_share
    with worded(DATA):
        return _several_sets(data, on_share) if data.sets else _one_set(data, on_share)


def _one_set(data: DataConfig, on_share: bool) -> Scenario:
    read = reading(data, on_share)
    train, test = load_sources(data.name, data.root, with_test=not on_share, **read, max_pixels=data.max_pixels)
    scenario = split_scenario(
        data.name,
        train,
        test,
        order=_classes(data.name, data.order, data.classes, train.class_names),
        increment=data.increment,
        initial=data.initial,
        validation=data.validation,
        evaluate_share=on_share,
        image_size=data.image_size,
    )
    if scenario.image_size != data.image_size:
        reason = f"but the images of {data.name} have {scenario.image_size} pixels"
        raise InvalidSettingError("image_size", data.image_size, reason, scenario.image_size)
    return scenario


def reading(given: DataConfig | SetConfig | LearntFolderConfig, on_share: bool = False) -> dict[str, Any]:
    """Return the options of a data set in files, as arguments of ``load_sources``.

    Where a share of the training images is evaluated on (``on_share``), ``evaluate_on=val`` is that, and no folder.
    """
    names = ("evaluate_on", "test_share", "test_split", "files", "on_broken", "orientation")
    options = {name: getattr(given, name) for name in names}
    return {**options, "evaluate_on": "auto"} if on_share and given.evaluate_on == "val" else options


def _classes(name: str, order: Any, number: int | None, class_names: Sequence[str]) -> tuple[int, ...]:
    """Return the classes to learn, in order of arrival."""
    available = len(class_names)
    if number is not None and not 1 <= number <= available:
        reason = f"is not among the {available} classes of {name}"
        raise InvalidSettingError("classes", number, reason, (f"1 to {available}", None))
    return class_order(name, order, available, class_names)[:number]


# ---- several data sets -------------------------------------------------------------------------------------------


def _several_sets(data: DataConfig, on_share: bool) -> Scenario:
    read = cache(partial(load_sources, with_test=not on_share))  # a set may be in several entries
    parts = []
    for number, entry in enumerate(data.sets, start=1):
        with worded(of_entry(number, entry.name)):
            parts.append(_dataset_tasks(entry, data, read))
    return concat_scenarios(
        data.name, parts, image_size=data.image_size, validation=data.validation, evaluate_share=on_share
    )


def _dataset_tasks(entry: SetConfig, data: DataConfig, read: Callable[..., Sources]) -> DatasetTasks:
    train, test = read(entry.name, _root(entry, data), **reading(entry), max_pixels=data.max_pixels)
    order = _selected(entry, train.class_names)
    sizes = task_sizes(entry.name, len(order), len(order) if entry.increment is None else entry.increment)
    parts = of_classes(train, order), None if test is None else of_classes(test, order)
    return DatasetTasks(entry.name, *parts, sizes)


def _root(entry: SetConfig, data: DataConfig) -> str | None:
    """Return the root of an entry; sets with a folder of their own below their root may share ``data.root``."""
    return entry.root if entry.root is not None or entry.name not in FOLDERS else data.root


def _selected(entry: SetConfig, class_names: tuple[str, ...]) -> tuple[int, ...]:
    if entry.select is None:
        return _classes(entry.name, entry.order, entry.classes, class_names)
    selected, index = [nfc(name) for name in entry.select], {nfc(name): own for own, name in enumerate(class_names)}
    for name in selected:
        if name not in index:
            near = difflib.get_close_matches(name, class_names, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise InvalidSettingError(
                "select", NOT_GIVEN, f"has {name}, no class of it{hint}", f"[{class_names[0]}, ...]"
            )
        if selected.count(name) > 1:
            reason = f"has {name} more than once"
            raise InvalidSettingError("select", NOT_GIVEN, reason, mend="name each class once")
    if not entry.select:
        allowed = f"[{class_names[0]}, ...], or leave it out"
        raise InvalidSettingError("select", [], "names no class", allowed)
    return tuple(index[name] for name in selected)


def only_arrays(data: DataConfig) -> bool:
    """Return whether no image is in a file: new pictures are then resized whole, and not cropped as files are."""
    return all(name in ARRAY_CHANNELS for name in [entry.name for entry in data.sets] or [data.name])


def orientation(config: Config) -> str:
    """Return ``apply`` or ``ignore`` for the EXIF orientation of new pictures: as for the run's own images, or as for
    the folder that was learnt last (arrays have no orientation).
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
