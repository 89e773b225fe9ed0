"""Three kinds of network, each written and read once for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cl_lightning.config import saved
from cl_lightning.deploy import run_model
from cl_lightning.deploy.model import TrainedModel
from cl_lightning.deploy.run_model import open_run
from cl_lightning.methods.base import Method
from tests.deploy.runs import CNN, TRANSFORMER, write_run


@dataclass(frozen=True)
class Run:
    """Two of five tasks."""

    folder: Path
    method: Method
    """As it was when the run was kept."""
    model: TrainedModel
    """What is read from the folder."""


WRITTEN: dict[tuple[str, ...], Run] = {}
"""What has been written in this process: modules elsewhere that import the fixtures do not write it again."""


def run(tmp_path_factory: pytest.TempPathFactory, *overrides: str) -> Run:
    if overrides not in WRITTEN:
        folder = tmp_path_factory.mktemp("runs") / "run"
        method = write_run(folder, *overrides)
        WRITTEN[overrides] = Run(folder, method, open_run(folder))
    return WRITTEN[overrides]


@pytest.fixture(scope="session")
def dytox(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory, *TRANSFORMER)


@pytest.fixture(scope="session")
def icarl(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory, "method=icarl", *CNN)


@pytest.fixture(scope="session")
def der(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory, "method=der", *CNN)


@pytest.fixture(scope="session")
def daformer(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(tmp_path_factory, "method=daformer_m", *TRANSFORMER)


@pytest.fixture(scope="module")
def runs_are_read_once() -> Iterator[None]:
    """For commands that are typed many times: what is read from a folder does not change between them."""
    read, made = cache(saved.load_learnt), _by_folder(run_model.model_of)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cl_lightning.config.saved.load_learnt", read)
        patch.setattr("cl_lightning.deploy.run_model.load_learnt", read)
        patch.setattr("cl_lightning.deploy.run_model.model_of", made)
        yield


def _by_folder(function: Callable[..., Any]) -> Callable[..., Any]:
    found: dict[Path, Any] = {}

    def remembered(config: Any, folder: Path, *others: Any) -> Any:
        if folder not in found:
            found[folder] = function(config, folder, *others)
        return found[folder]

    return remembered
