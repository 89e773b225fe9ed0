"""Configurations without Hydra, which takes half a second for each: as it composes them, before they are filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cl_lightning.config.command_line.overrides import assignments, keys_set
from cl_lightning.config.fill_auto import fill_in
from cl_lightning.config.registry import SCHEMAS
from cl_lightning.config.schema import Config, DataConfig
from cl_lightning.config.schema.open_options import Open, opened
from cl_lightning.config.unused.check import Unread, unread
from cl_lightning.config.yaml_files import config_dir

CHOICES = {
    "method": "dytox", "data": "digits", "model": "auto", "memory": "total", "recipe": "auto", "trainer": "default",
    "logger": "csv",
}  # fmt: skip


def given(overrides: Sequence[str]) -> Open[Config]:
    """Return what Hydra would compose of them."""
    typed = assignments(overrides)
    chosen = CHOICES | {one.key: str(one.value) for one in typed if one.key in CHOICES}
    config = _composed(tuple(chosen.items())).copy()
    for one in typed:
        if one.key not in CHOICES and not one.key.startswith("data.sets."):
            value: Any = one.value if isinstance(one.value, list) else OmegaConf.create([one.value])[0]
            OmegaConf.update(config, one.key, value, merge=True)
    made = OmegaConf.to_object(config)
    assert isinstance(made, Config)
    return made


@cache
def _composed(chosen: tuple[tuple[str, str], ...]) -> DictConfig:
    groups = {group: _option(group, name) for group, name in chosen}
    own = OmegaConf.load(config_dir() / "config.yaml")
    root = OmegaConf.masked_copy(own, [key for key in own if key not in ("defaults", "hydra")])
    config = OmegaConf.merge(OmegaConf.structured(opened(Config)), root, groups, {"run_dir": "unused"})
    assert isinstance(config, DictConfig)
    return config


@cache
def _option(group: str, name: str) -> Any:
    if name.startswith("schema_"):
        return OmegaConf.structured(opened(SCHEMAS[group][name.removeprefix("schema_")]))
    own = OmegaConf.load(config_dir() / group / f"{name}.yaml")
    assert isinstance(own, DictConfig)
    parents = [_parent(group, parent) for parent in own.pop("defaults") if parent != "_self_"]
    return OmegaConf.merge(*parents, own)


def _parent(group: str, name: str) -> Any:
    """Return what an option starts from: a type, another option, or ``/phase@main``, what all phases have."""
    file, _, package = name.partition("@")
    if not package:
        return _option(group, file)
    return OmegaConf.create({package: OmegaConf.load(f"{config_dir()}{file}.yaml")})


def filled(*overrides: str) -> Config:
    """The same filled in."""
    return fill_in(given(overrides), keys_set(overrides))


def data_of(choice: str, **changed: Any) -> DataConfig:
    """Return the options of a data set, but for what is ``changed``."""
    return replace(filled(f"data={choice}", "data.root=nowhere", "data.increment=2").data, **changed)


def compose(overrides: Sequence[str]) -> tuple[Config, list[Unread]]:
    """In place of ``compose.compose_one_of_many``."""
    before = given(overrides)
    config = fill_in(before, keys_set(overrides))
    return config, unread(assignments(overrides), config, before)


def idle(*overrides: str) -> dict[str, str]:
    """Return which options of ``overrides`` nobody reads -> what to type for them to be read."""
    return {one.key: one.type for one in compose(overrides)[1]}
