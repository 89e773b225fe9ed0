"""What a run was made under, flat: which of it defines the question that is asked, and which the answer.

``data``, ``tasks`` or ``evaluates_on`` say what is measured: numbers that differ in them must not be compared unasked.
``memory``, ``epochs`` or ``method.temperature`` say how it was reached: they tell groups of runs from each other. Seed
and class order are neither: they are what is repeated.
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
"""What runs in one table have in common."""

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
"""What differs by itself where these do."""

IMAGES = {"trained_on": "training images", "evaluated_on": "evaluation images"}
"""By content, as digests. The first kind tells groups apart, the second is part of the question."""

ABSENT = "not recorded"
"""Stands for a value that a run's files do not have."""

_REPEATED = ("seed", "order")
_ELSEWHERE = ("evaluation_folder", "recipe_changes", "recipe_switches", "method_options", "evaluation", "readout")
_IN_PROTOCOL = (
    "data.name", "data.order", "data.classes", "data.initial", "data.increment", "data.augmentation", "data.sets"
)  # fmt: skip
_FIRST = ("method", "tasks_done", "readout", "trained_on", "memory", "memory_scope", "model", "recipe")
_THEN = ("epochs", "lr_scale", "batch", "replicas", "precision", "augmentation")
_EPOCHS = re.compile(r"method\.\w+\.epochs")
"""What a phase has, and no other group of a method's options."""
_SET = "set"
_SHOWN_NAMES = 3
_SHOWN_DIGITS = 8


def from_protocol(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """A run's ``protocol`` by the names that are typed: ``method.temperature``, ``recipe.finetuning_order``."""
    parts = {"method": protocol["method_options"], "recipe": protocol["recipe_switches"]}
    plain = {key: value for key, value in protocol.items() if key not in (*_REPEATED, *_ELSEWHERE)}
    return plain | numeric_settings({name: options for name, options in parts.items() if options})


def from_images(results: Mapping[str, Any]) -> dict[str, str]:
    """Return which images a run saw, by content, as far as its results tell."""
    identity, evaluated = results.get("data_identity", {}), results["protocol"].get("evaluates_on", "test")
    found = {"trained_on": identity.get("train"), "evaluated_on": identity.get(evaluated)}
    return {key: digest for key, digest in found.items() if digest is not None}


def from_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the protocol leaves out of a run's flat configuration: how images are made, what the network looks like."""
    return {
        key: value
        for key, value in config.items()
        if key.startswith(("data.", "model."))
        and key not in (*_IN_PROTOCOL, "model.name")
        and (key, value) != ("data.orientation", "ignore")  # as all runs did before there was a choice
    }


def words(key: str, value: Any) -> str:
    """A value as it is shown, and may be typed: tasks of equal sizes as ``5x2``, unequal ones as ``50+5x10``."""
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
    """Whether ``typed`` names this value: as it is shown, or as YAML reads it."""
    if typed in (str(value), words(key, value)):
        return True
    try:
        read = yaml.safe_load(typed)
    except yaml.YAMLError:
        return False
    return bool(read == value) and isinstance(read, bool) == isinstance(value, bool)


def value_of(settings: Mapping[str, Any], key: str) -> Any:
    """The value of ``key``; ``set`` for a group of options that is there, where others have null."""
    if key in settings:
        return settings[key]
    return _SET if any(other.startswith(f"{key}.") for other in settings) else ABSENT


def differing(given: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys in which settings differ, the telling ones first. Options below one that is null anywhere are told by
    it.
    """
    keys = {key for settings in given for key in settings}
    values = {key: len(distinct(given, key)) for key in keys if not _below_another(key, keys)}
    phases = tuple(key.removesuffix("epochs") for key in keys if _EPOCHS.fullmatch(key))
    return sorted(
        (key for key, number in values.items() if number > 1),
        key=lambda key: (*_telling(key, phases), -values[key], key),
    )


def distinct(given: Iterable[Mapping[str, Any]], key: str) -> list[Any]:
    """The values of ``key``, each once, in the order in which they come."""
    return list({json.dumps(value, sort_keys=True): value for value in (value_of(one, key) for one in given)}.values())


def _below_another(key: str, keys: Iterable[str]) -> bool:
    parts = key.split(".")
    above = {".".join(parts[:depth]) for depth in range(1, len(parts))}
    return bool(above & (set(keys) - {"method", "recipe", "data", "model"}))


def _telling(key: str, phases: tuple[str, ...]) -> tuple[int, int]:
    """Where a key stands among those that may name a group: what was chosen by name first, the small print, as that of
    ``phases``, last.
    """
    if key in _FIRST:
        return 0, _FIRST.index(key)
    if key.startswith(("method.", "recipe.")) and not key.startswith(phases):
        return 1, 0
    if key in _THEN:
        return 2, _THEN.index(key)
    return 3, 0
