"""Types of options, as Hydra knows them: each group's options start from one, and nobody can choose it."""

from __future__ import annotations

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from cl_lightning.config.registry import SCHEMAS, register
from cl_lightning.config.schema import Config, WAConfig
from cl_lightning.config.yaml_files import options, schema_name


@pytest.mark.parametrize("group", SCHEMAS)
def test_each_option_of_a_group_starts_from_a_type_that_is_known(group: str) -> None:
    used = {schema_name(group, name) for name in options(group)}
    assert used == set(SCHEMAS[group]), "and none is known in vain"


def test_hydra_finds_the_types_and_lists_none_of_them() -> None:
    register()
    store = ConfigStore.instance()
    node = store.load("method/schema_wa.yaml").node
    assert OmegaConf.get_type(node).__name__ == WAConfig.__name__
    assert OmegaConf.get_type(store.load("schema_config.yaml").node).__name__ == Config.__name__
    for group in SCHEMAS:
        assert not [name for name in store.list(group) if name.startswith("schema_")]


def test_registering_again_changes_nothing() -> None:
    register()
    before = ConfigStore.list
    register()
    assert ConfigStore.list is before
