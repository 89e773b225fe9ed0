"""The settings of a run, flat: those that define the question, and those that define a group.

``data``, ``tasks`` or ``evaluates_on`` define what is measured: runs that differ in them are not compared unasked.
``memory``, ``epochs`` or ``method.temperature`` define how it was reached: groups of runs differ in them. Seed
and class order are neither: they are repetitions.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import yaml

from cl_lightning.config.identity import numeric_settings

COMPARED = (
    "data",
    "classes",
    "class_names",
    "tasks",
    "evaluates_on",
    "test_images",
    "evaluated_on",
    "data.image_size",
    "data.validation",
    "data.test_share",
    "evaluation",
)
"""Keys that runs in one table must agree in."""

FOLLOWS = {
    "data": ("class_names", "test_images", "evaluated_on", "data.image_size", "data.test_share"),
    "tasks": ("classes",),
    "classes": ("class_names", "test_images", "evaluated_on"),
    "class_names": ("test_images", "evaluated_on"),
    "evaluates_on": ("test_images", "evaluated_on", "data.validation"),
    "test_images": ("evaluated_on",),
    "data.validation": ("test_images", "evaluated_on"),
    "data.test_share": ("test_images", "evaluated_on"),
}
"""Key -> keys that differ because it does."""

IMAGES = {"trained_on": "training images", "evaluated_on": "evaluation images"}
"""Digests of images. The first defines groups, the second is part of the question."""

ABSENT = "not recorded"
"""Placeholder for a value that a run's files do not have."""

_REPEATED = ("seed", "order")
_ELSEWHERE = (
    "evaluation_folder", "origin", "recipe_changes", "recipe_switches", "method_options", "evaluation", "readout",
)  # fmt: skip
_IN_PROTOCOL = (
    "data.name", "data.order", "data.classes", "data.initial", "data.increment", "data.augmentation", "data.cutout",
    "data.balance", "data.sets", "data.preprocess.size", "data.preprocess.resize", "data.preprocess.crop_share",
    "data.preprocess.interpolation", "data.preprocess.normalise",
)  # fmt: skip
_FIRST = ("method", "tasks_done", "readout", "trained_on", "memory", "memory_scope", "model", "recipe")
_THEN = (
    "epochs", "lr_scale", "batch", "replicas", "precision", "augmentation", "preprocess", "balance", "early_stopping",
)  # fmt: skip
_EPOCHS = re.compile(r"method\.\w+\.epochs")
"""Option that every phase has, and no other group of a method's options."""
_SET = "set"
_SHOWN_NAMES = 3
_SHOWN_DIGITS = 8


def from_protocol(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's ``protocol`` by the names that are typed: ``method.temperature``, ``recipe.finetuning_order``."""
    parts = {"method": protocol["method_options"], "recipe": protocol["recipe_switches"]}
    plain = {key: value for key, value in protocol.items() if key not in (*_REPEATED, *_ELSEWHERE)}
    return plain | numeric_settings({name: options for name, options in parts.items() if options})


def from_images(results: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of the images of a run, as far as its results have them."""
    identity, evaluated = results.get("data_identity", {}), results["protocol"].get("evaluates_on", "test")
    digests = {"trained_on": identity.get("train"), "evaluated_on": identity.get(evaluated)}
    return {key: digest for key, digest in digests.items() if digest is not None}


def from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of images and networks in a run's flat configuration, which the protocol leaves out."""
    return {
        key: value
        for key, value in config.items()
        if key.startswith(("data.", "model."))
        and key not in (*_IN_PROTOCOL, "model.name")
        and (key, value) != ("data.orientation", "ignore")  # as all runs did before there was a choice
    }


def format_value(key: str, value: Any) -> str:
    """Return a value as it is shown, and may be typed: tasks of equal sizes as ``5x2``, unequal ones as ``50+5x10``."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case str() if key in IMAGES:
            return value if value == ABSENT else value[:_SHOWN_DIGITS]
        case list() if key == "tasks":
            runs = [(size, len(list(equal))) for size, equal in groupby(value)]
            return "+".join(f"{times}x{size}" if times > 1 else str(size) for size, times in runs)
        case list() if key == "class_names" and len(value) > _SHOWN_NAMES:
            sum_of_all = zlib.crc32(json.dumps(value).encode())
            return f"{', '.join(map(str, value[:_SHOWN_NAMES]))} ... ({len(value)} names, checksum {sum_of_all:08x})"
        case str():
            return value
        case _:
            return json.dumps(value)


def is_meant(key: str, value: Any, typed: str) -> bool:
    """Return whether ``typed`` is this value: as it is shown, or as YAML reads it."""
    if typed in (str(value), format_value(key, value)):
        return True
    try:
        read = yaml.safe_load(typed)
    except yaml.YAMLError:
        return False
    return bool(read == value) and isinstance(read, bool) == isinstance(value, bool)


def value_of(settings: Mapping[str, Any], key: str) -> Any:
    """Return the value of ``key``; ``set`` for a group of options where other settings have null."""
    if key in settings:
        return settings[key]
    return _SET if any(other.startswith(f"{key}.") for other in settings) else ABSENT


def differing(given: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys in which settings differ, the most telling first. A group that is null anywhere stands for its
    options.
    """
    keys = {key for settings in given for key in settings}
    values = {key: len(distinct(given, key)) for key in keys if not _below_another(key, keys)}
    phases = tuple(key.removesuffix("epochs") for key in keys if _EPOCHS.fullmatch(key))
    return sorted(
        (key for key, number in values.items() if number > 1),
        key=lambda key: (*_telling(key, phases), -values[key], key),
    )


def distinct(given: Iterable[Mapping[str, Any]], key: str) -> list[Any]:
    """Return the distinct values of ``key``, in order of appearance."""
    return list({json.dumps(value, sort_keys=True): value for value in (value_of(one, key) for one in given)}.values())


def _below_another(key: str, keys: Iterable[str]) -> bool:
    parts = key.split(".")
    above = {".".join(parts[:depth]) for depth in range(1, len(parts))}
    return bool(above & (set(keys) - {"method", "recipe", "data", "model"}))


def _telling(key: str, phases: tuple[str, ...]) -> tuple[int, int]:
    """Return the sort key of a setting in a group's name: options of groups first; details, as those of ``phases``,
    last.
    """
    if key in _FIRST:
        return 0, _FIRST.index(key)
    if key.startswith(("method.", "recipe.")) and not key.startswith(phases):
        return 1, 0
    if key in _THEN:
        return 2, _THEN.index(key)
    return 3, 0
