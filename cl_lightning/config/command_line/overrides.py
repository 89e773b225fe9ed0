"""The options that a command line sets: itself, and through the files that it chooses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf

from cl_lightning.config.hydra_internals import Override, parse_overrides
from cl_lightning.config.yaml_files import config_dir

_FILES = ("experiment", "sweep", "debug")
"""Groups whose files set options of other groups."""


@dataclass(frozen=True)
class Assignment:
    """One option that was typed."""

    key: str
    """Key, ``memory.size``; in a list's entry with its number, ``data.sets.0.root``. The name of a group where one of
    its files was chosen.
    """
    text: str
    """The override as typed."""
    value: Any = None


def assignments(overrides: Sequence[str]) -> list[Assignment]:
    """Return what ``overrides`` set of our configuration, without Hydra's own part.

    A value that holds several options, ``method.mixup={alpha: 0.8}`` or an entry of ``data.sets``, is taken apart.
    """
    return [one for override in parse_overrides(overrides) if not _is_hydra_s(override) for one in _assigned(override)]


def plain_assignments(overrides: Sequence[str]) -> list[Assignment]:
    """Return the assignments of overrides without Hydra's grammar: ``key=value`` and nothing else."""
    return [Assignment(override.partition("=")[0], override) for override in overrides]


def _is_hydra_s(override: Override) -> bool:
    return override.key_or_group.split("/")[0].split(".")[0] == "hydra"


def _assigned(override: Override) -> Iterator[Assignment]:
    key, text = override.key_or_group.partition("@")[0], str(override.input_line)
    value = None if override.is_sweep_override() or override.is_delete() else override.value()
    for name, leaf in _leaves(key, value):
        yield Assignment(name, text, leaf)


def _leaves(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _leaves(f"{key}.{name}", item)
        return
    yield key, value
    if isinstance(value, list):
        for place, item in enumerate(value):
            if isinstance(item, Mapping):
                yield from _leaves(f"{key}.{place}", item)


def keys_set(overrides: Sequence[str]) -> frozenset[str]:
    """Return the options that ``overrides`` set: typed, or in a file of ``experiment=``, ``sweep=`` or ``debug=``."""
    typed = assignments(overrides)
    files = [
        (one.key, str(name))
        for one in typed
        if one.key in _FILES
        for name in (one.value if isinstance(one.value, list) else [one.value])
    ]
    return frozenset(one.key for one in typed).union(*(_keys_of_file(*file) for file in files))


def _keys_of_file(group: str, name: str) -> frozenset[str]:
    path = config_dir() / group / f"{name}.yaml"
    if not path.is_file():
        return frozenset()
    content: Any = OmegaConf.to_container(OmegaConf.load(path))
    parents = [parent for parent in content.pop("defaults", []) if isinstance(parent, str) and parent != "_self_"]
    keys = {key for name, value in content.items() for key, _ in _leaves(str(name), value)}
    return frozenset(keys).union(*(_keys_of_file(group, parent) for parent in parents))
