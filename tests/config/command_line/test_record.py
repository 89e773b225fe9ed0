"""The record of what was typed, in ``.hydra/`` of a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from cl_lightning.config.command_line.record import FOLDER, key_of_folder, write_typed


@pytest.fixture
def hydra(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A job of Hydra with two overrides."""
    node = OmegaConf.create(
        {"mode": RunMode.RUN, "overrides": {"task": ["seed=3", "data.root=${oc.env:HOME}"]}, "job": {"name": "x"}}
    )
    monkeypatch.setattr(HydraConfig, "get", staticmethod(lambda: node))
    monkeypatch.setattr(HydraConfig, "initialized", staticmethod(lambda: True))
    return node


def test_three_files_as_hydra_writes_them(hydra: Any, tmp_path: Path) -> None:
    write_typed(tmp_path, OmegaConf.create({"seed": 3, "run_dir": "${hydra:runtime.output_dir}"}))
    found = {path.name: yaml.safe_load(path.read_text()) for path in (tmp_path / FOLDER).iterdir()}
    assert found["config.yaml"] == {"seed": 3, "run_dir": "${hydra:runtime.output_dir}"}, "nothing is filled in"
    assert found["overrides.yaml"] == ["seed=3", "data.root=${oc.env:HOME}"]
    assert found["hydra.yaml"]["hydra"]["job"] == {"name": "x"}
    assert sorted(found) == ["config.yaml", "hydra.yaml", "overrides.yaml"]


def test_nothing_is_written_through_a_link(hydra: Any, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / FOLDER).symlink_to(elsewhere)
    with pytest.raises(OSError, match=FOLDER):
        write_typed(tmp_path, OmegaConf.create({"seed": 3}))
    assert list(elsewhere.iterdir()) == []


def test_the_key_of_the_folder_of_one_run_and_of_many(hydra: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert key_of_folder() == "run_dir"
    with open_dict(hydra):
        hydra.mode = RunMode.MULTIRUN
    assert key_of_folder() == "hydra.sweep.dir"
    monkeypatch.setattr(HydraConfig, "initialized", staticmethod(lambda: False))
    assert key_of_folder() == "run_dir"
