"""Whole runs that adapt a transformer to their first task: stopped and gone on with, exported, bundled."""

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
from cl_lightning.models.plain_vit import PlainViT
from cl_lightning.run.train import execute

pytestmark = pytest.mark.slow

SHORT = (
    "model=vit_tiny", "model.dim=16", "model.depth=2", "model.num_heads=2", "method.adapt=true", "data.increment=5",
    "method.adaptation.epochs=2", "epochs_scale=1", "trainer.progress=none", "trainer.threads=1", "report.page=false",
)  # fmt: skip
IMAGES = rng.normal(Key(0), torch.arange(2 * 64)).view(2, 1, 8, 8)


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    with torch_seeded(Key(7)):
        made = PlainViT(image_size=8, channels=1, patch_size=2, dim=16, depth=2, num_heads=2)
    torch.save(made.state_dict(), tmp_path / "vit.pth")
    return tmp_path / "vit.pth"


def start(run_dir: Path, vit: Path, *overrides: str) -> None:
    given = (*SHORT, "model.patch_size=2", f"model.weights_file={vit}", *overrides)
    execute(compose_one_of_many([f"run_dir={run_dir}", *given])[0])


def learnt(run_dir: Path, task: int) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = load_checkpoint(run_dir / "checkpoints" / f"task_{task:03d}.pt")["network"]["weights"]
    return weights


def test_the_first_task_adapts_and_later_ones_change_nothing(vit: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    start(run, vit, "method=simplecil", "trainer.stop_after_task=0")
    vit.unlink()
    first = learnt(run, 0)
    execute(load_saved(run), resume=True)
    last = learnt(run, 1)
    backbone = [key for key in first if key.startswith("backbone.")]
    assert all(torch.equal(first[key], last[key]) for key in backbone)
    assert any(bool(first[key].any()) for key in backbone if ".up.weight" in key), "adapted"
    assert not any("linear" in key for key in first), "the first classifier is dropped"
    results = json.loads((run / "results.json").read_text())
    matrix = results["accuracy_matrix"]["class_incremental"]["linear"]
    assert [len(row) for row in matrix] == [1, 2]


@pytest.mark.long
def test_a_run_that_was_stopped_has_the_numbers_of_one_that_was_not(vit: Path, tmp_path: Path) -> None:
    start(tmp_path / "whole", vit, "method=ranpac", "method.projection=50")
    parts = ("method=ranpac", "method.projection=50", "trainer.checkpoint_steps=7", "trainer.stop_after_task=0")
    start(tmp_path / "parts", vit, *parts)
    execute(load_saved(tmp_path / "parts"), resume=True)
    whole, again = learnt(tmp_path / "whole", 1), learnt(tmp_path / "parts", 1)
    assert all(torch.equal(value, again[key]) for key, value in whole.items())


@pytest.mark.long
def test_an_adapted_network_goes_wherever_a_run_goes(vit: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    start(run, vit, "method=simplecil")
    expected = open_run(run).predict(IMAGES)["linear"]
    assert export([str(run), "--out", str(tmp_path / "out"), "--formats", "safetensors", "torch_export"]) == 0
    torch.testing.assert_close(load_exported(tmp_path / "out").predict(IMAGES)["linear"], expected)
    assert bundle(["export", str(run), str(tmp_path / "run.bundle")]) == 0
    assert bundle(["import", str(tmp_path / "run.bundle"), str(tmp_path / "again")]) == 0
    torch.testing.assert_close(open_run(tmp_path / "again").predict(IMAGES)["linear"], expected)
