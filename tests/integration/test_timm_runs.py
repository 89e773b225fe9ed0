"""Whole runs of timm's networks as feature extractors, from weights in a file to predictions and a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cl_lightning.bundle.__main__ import main as bundle
from cl_lightning.checkpoint.files import load_checkpoint
from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.config.saved import load_saved
from cl_lightning.core import rng
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.deploy.exported import load_exported
from cl_lightning.deploy.run_model import open_run
from cl_lightning.export import main as export
from cl_lightning.models.timm_backbone import TimmBackbone
from cl_lightning.run.train import execute

pytestmark = pytest.mark.slow

SHORT = (
    "model=timm_backbone", "model.name=test_resnet", "data.increment=5", "epochs_scale=0.004", "trainer.progress=none",
    "trainer.threads=1", "balanced_epochs_scale=0.1", "report.page=false",
)  # fmt: skip

IMAGES = rng.normal(Key(0), torch.arange(2 * 64)).view(2, 1, 8, 8)


def start(run_dir: Path, *overrides: str) -> None:
    execute(compose_one_of_many([f"run_dir={run_dir}", *SHORT, *overrides])[0])


def learnt(run_dir: Path, task: int = 1) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = load_checkpoint(run_dir / "checkpoints" / f"task_{task:03d}.pt")["network"]["weights"]
    return weights


def trained(file: Path) -> dict[str, Tensor]:
    with torch_seeded(Key(7)):
        weights = TimmBackbone(name="test_resnet", image_size=8, channels=1).state_dict()
    torch.save(weights, file)
    return weights


def assert_equal(some: dict[str, Tensor], others: dict[str, Tensor]) -> None:
    assert list(some) == list(others)
    assert all(torch.equal(value, others[key]) for key, value in some.items())


def test_a_run_goes_on_without_the_file_that_it_started_from(tmp_path: Path) -> None:
    run, file = tmp_path / "run", tmp_path / "trained.pth"
    given = trained(file)
    start(run, "method=icarl", "model.frozen=true", f"model.weights_file={file}", "trainer.stop_after_task=0")
    file.unlink()
    execute(load_saved(run), resume=True)
    weights = learnt(run)
    assert_equal({key: weights[f"backbone.{key}"] for key in given}, given)
    assert open_run(run).predict(IMAGES)["nme"].shape == (2, 10)


@pytest.mark.long
def test_a_run_that_was_stopped_has_the_numbers_of_one_that_was_not(tmp_path: Path) -> None:
    trained(tmp_path / "trained.pth")
    from_file = ("method=icarl", f"model.weights_file={tmp_path / 'trained.pth'}")
    start(tmp_path / "whole", *from_file)
    start(tmp_path / "parts", *from_file, "trainer.stop_after_task=0")
    execute(load_saved(tmp_path / "parts"), resume=True)
    assert_equal(learnt(tmp_path / "parts"), learnt(tmp_path / "whole"))
    results = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "parts")]
    assert results[0]["accuracy_matrix"] == results[1]["accuracy_matrix"]


@pytest.mark.long
def test_a_network_goes_wherever_a_run_goes(tmp_path: Path) -> None:
    run = tmp_path / "run"
    start(run, "method=icarl")
    expected = open_run(run).predict(IMAGES)["nme"]
    assert export([str(run), "--out", str(tmp_path / "out"), "--formats", "safetensors", "torch_export"]) == 0
    torch.testing.assert_close(load_exported(tmp_path / "out").predict(IMAGES)["nme"], expected)
    assert bundle(["export", str(run), str(tmp_path / "run.bundle")]) == 0
    assert bundle(["import", str(tmp_path / "run.bundle"), str(tmp_path / "again")]) == 0
    torch.testing.assert_close(open_run(tmp_path / "again").predict(IMAGES)["nme"], expected)


@pytest.mark.long
@pytest.mark.parametrize("method", ["lwf", "ucir", "wa", "der"])
def test_every_method_of_vectors_learns_on_one(method: str, tmp_path: Path) -> None:
    start(tmp_path / "run", f"method={method}", "epochs_scale=0.04", "balanced_epochs_scale=0.2")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    (readout, *_), first = results["accuracy_matrix"]["class_incremental"], results["tasks"][0]["accuracy"]
    assert first["class_incremental"][readout] > 0.4, "of five classes"


@pytest.mark.long
def test_replicas_are_part_of_the_recipe(tmp_path: Path) -> None:
    """Batch statistics are those of each half of a batch: another run than with one replica."""
    for name, replicas in (("one", 1), ("two", 2)):
        start(tmp_path / name, "method=wa", f"batch.replicas={replicas}", f"batch.size={32 // replicas}")
    one, two = learnt(tmp_path / "one"), learnt(tmp_path / "two")
    assert any(not torch.equal(value, two[key]) for key, value in one.items())
