"""Each option has its default in one place: in ``conf/``, or for the few that no file can give, in its type."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from cl_lightning.config.registry import SCHEMAS
from cl_lightning.config.schema import Config, SetConfig
from cl_lightning.config.schema.added_task import ExtendsConfig, LearntFolderConfig
from cl_lightning.config.yaml_files import config_dir, load_option, options, schema_name
from cl_lightning.losses.neighbours import Neighbours
from cl_lightning.memory.rehearsal import Budget
from cl_lightning.methods.der import DEROptions
from cl_lightning.methods.dytox import DyToxOptions
from cl_lightning.methods.meat import MEATOptions
from cl_lightning.methods.wa import WAOptions

CHOICES = [(group, name) for group in SCHEMAS for name in options(group)]


def has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def options_of(schema: type, prefix: str = "") -> Iterator[tuple[str, bool]]:
    """Each option of a type, and whether it has a default there; not what is in entries of lists."""
    hints = get_type_hints(schema)
    for field in dataclasses.fields(schema):  # type: ignore[arg-type]
        hint = hints[field.name]
        inner = [kind for kind in (hint, *get_args(hint)) if dataclasses.is_dataclass(kind)]
        if inner and inner[0] is not SetConfig:
            assert not has_default(field), f"{prefix}{field.name}"
            yield from options_of(inner[0], f"{prefix}{field.name}.")  # type: ignore[arg-type]
        else:
            yield f"{prefix}{field.name}", has_default(field)


def keys(plain: dict[str, Any], groups: set[str], prefix: str = "") -> set[str]:
    """The options that files give; those of ``groups`` hold others."""
    found: set[str] = set()
    for name, value in plain.items():
        key = f"{prefix}{name}"
        found |= keys(value, groups, f"{key}.") if key in groups else {key}
    return found


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=[f"{group}={name}" for group, name in CHOICES])
def test_a_choice_gives_every_option_that_its_type_does_not(group: str, name: str) -> None:
    declared = dict(options_of(SCHEMAS[group][schema_name(group, name)]))
    inner = {key.rpartition(".")[0] for key in declared} - {""}
    assert keys(load_option(group, name), inner) == {key for key, has in declared.items() if not has}


def test_the_run_s_own_options_are_in_the_first_file() -> None:
    plain = yaml.safe_load((config_dir() / "config.yaml").read_text())
    own = {field.name for field in dataclasses.fields(Config)} - set(SCHEMAS)
    assert not any(map(has_default, dataclasses.fields(Config)))
    assert set(plain) - {"defaults", "hydra"} == own
    for group, schema in get_type_hints(Config).items():
        if group in ("batch", "report"):
            assert set(plain[group]) == {key for key, has in options_of(schema) if not has}


def test_types_have_the_defaults_that_no_file_can_give() -> None:
    """A model's kind is that of its type; entries of ``data.sets`` are typed."""
    schemas = [schema for group in SCHEMAS.values() for schema in group.values()]
    assert {key for schema in schemas for key, has in options_of(schema) if has} == {"kind"}
    assert [field.name for field in dataclasses.fields(SetConfig) if not has_default(field)] == ["name"]
    for written in (ExtendsConfig, LearntFolderConfig):  # by learn=, which says everything
        assert not any(map(has_default, dataclasses.fields(written)))


def test_what_is_explained_of_an_entry_of_data_sets_is_so() -> None:
    text = (config_dir() / "data" / "sequence.yaml").read_text()
    told = {name: yaml.safe_load(value) for name, value in re.findall(r"^#   (\w+): (\S+) ", text, re.MULTILINE)}
    defaults = {field.name: field.default for field in dataclasses.fields(SetConfig)}
    assert set(told) == set(defaults)
    examples = ("name", "root")
    assert {k: v for k, v in told.items() if k not in examples} == {
        k: v for k, v in defaults.items() if k not in examples
    }


@pytest.mark.parametrize("kind", [Budget, DEROptions, DyToxOptions, MEATOptions, Neighbours, WAOptions])
def test_what_receives_options_has_no_defaults(kind: Any) -> None:
    assert [field.name for field in dataclasses.fields(kind) if has_default(field)] == []
