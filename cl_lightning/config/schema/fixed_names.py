"""Names that a choice sets, ``method.name`` with ``method=wa``: they identify a run, so they may not be typed.

Who types ``method.name=wa`` beside ``method=dytox`` would have DyTox's numbers under WA's name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cl_lightning.config.command_line.overrides import Assignment, assignments
from cl_lightning.config.schema.bounds import Named, bounded, bounds_of
from cl_lightning.config.yaml_files import options

_GROUP = "chosen by"


@dataclass(frozen=True)
class Written:
    """One of some words, which a file of ``conf/`` gives: it cannot be typed."""

    allowed: tuple[str, ...]

    def refusal(self, named: Named, value: Any) -> str | None:
        """Return what is wrong with a word, and what to write into the file."""
        if value in self.allowed:
            return None
        words = self.told(named.key.rpartition(".")[2])
        return f"{named.given(value)}, which a file brings, is not a choice: write {words} into it"

    def told(self, key: str) -> str:
        """Return the lines of a file that give one of them."""
        return " or ".join(f"{key}: {each}" for each in self.allowed)


def chosen(group: str, allowed: tuple[str, ...] = ()) -> Any:
    """Return a field that a file of ``conf/`` fills in; ``group`` is typed to choose another value."""
    bounds = bounded(Written(allowed)) if allowed else {}
    return dataclasses.field(metadata={_GROUP: group, **bounds})


def constant(group: str, value: str) -> Any:
    """Return a field that is the same wherever its type is chosen."""
    return dataclasses.field(default=value, metadata={_GROUP: group})


def is_chosen(field: dataclasses.Field[Any]) -> bool:
    """Return whether an option is filled in by a file of ``conf/`` alone."""
    return _GROUP in field.metadata


def lacking_in_file(composed: DictConfig) -> str | None:
    """Return one line on a name that a file of ``conf/`` must give and does not, with what to write, else ``None``."""
    for key in sorted(OmegaConf.missing_keys(composed)):
        parent, _, name = key.rpartition(".")
        field = _fields(composed, parent).get(name)
        if field is not None and is_chosen(field):
            bounds, group = bounds_of(field), composed[parent]
            lines = bounds.told(name) if isinstance(bounds, Written) else f"{name}: ..."
            file = "the file" if "name" not in group or OmegaConf.is_missing(group, "name") else f"{group.name}.yaml"
            return f"{key} is in no file: write {lines} into {file} of conf/{parent}"
    return None


def typed_names(typed: Iterable[Assignment], composed: DictConfig) -> str | None:
    """Return one line on a name among what was ``typed`` that a choice brings, else ``None``."""
    for one in typed:
        group = _group_of(one.key, composed)
        if group is not None:
            names = options(group)
            choice = one.value if one.value in names else f" one of {', '.join(names)}"
            return f"{one.text} is not possible, the choice brings {one.key}: type {group}={choice}"
    return None


def names_of_jobs(composed: DictConfig) -> str | None:
    """Return one line on such a name among what the jobs of a multirun were given, else ``None``; ``composed`` has the
    node ``hydra``. Whether a model's name is free depends on the job.
    """
    overrides = OmegaConf.to_container(composed.hydra.overrides.task, resolve=False)
    params = OmegaConf.to_container(composed.hydra.sweeper, resolve=False)
    assert isinstance(overrides, list)
    assert isinstance(params, dict)
    texts = [*map(str, overrides), *(f"{key}={value}" for key, value in (params.get("params") or {}).items())]
    return typed_names((one for one in assignments(texts) if not one.key.startswith("model.")), composed)


def _group_of(key: str, composed: DictConfig) -> str | None:
    """Return what one types instead of ``key``; None where it may be typed."""
    parent, _, name = key.partition(".")
    field = _fields(composed, parent).get(name)
    return None if field is None else field.metadata.get(_GROUP)


def _fields(composed: DictConfig, group: str) -> dict[str, dataclasses.Field[Any]]:
    """Return the options of a group; none of what is no group of the configuration."""
    schema = OmegaConf.get_type(composed, group) if group in composed else None
    if schema is None or not dataclasses.is_dataclass(schema):
        return {}
    return {field.name: field for field in dataclasses.fields(schema)}
