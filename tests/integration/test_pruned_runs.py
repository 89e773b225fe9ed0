"""Whole runs of DER whose extractors are pruned: stopped within a phase, gone on with, replayed, exported, bundled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.bundle.__main__ import main as bundle
from cl_lightning.checkpoint import files
from cl_lightning.checkpoint.files import list_checkpoints, load_checkpoint
from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.config.saved import load_saved
from cl_lightning.core import rng
from cl_lightning.core.rng import Key
from cl_lightning.deploy.exported import load_exported
from cl_lightning.deploy.run_model import open_run
from cl_lightning.export import main as export
from cl_lightning.learning import lightning_module
from cl_lightning.learning.lightning_module import Learner
from cl_lightning.run.train import execute
from tests.learning.recorder import ByHand

pytestmark = pytest.mark.slow

SHORT = (
    "method=der", "model=resnet8", "data.increment=[4,3,3]", "epochs_scale=0.012", "balanced_epochs_scale=0.1",
    "trainer.progress=none", "trainer.threads=1", "report.page=false",
)  # fmt: skip
RULES = {
    "masks": ("method.pruning.rule=masks", "method.pruning.sparsity=30"),
    "scales": ("method.pruning.rule=scales", "method.kd_weight=1", "method.finetune_pruned=true"),
}
IMAGES = rng.normal(Key(0), torch.arange(2 * 64)).view(2, 1, 8, 8)


def start(run_dir: Path, rule: str, *overrides: str) -> None:
    execute(compose_one_of_many([f"run_dir={run_dir}", *SHORT, *RULES[rule], *overrides])[0])


def last(run_dir: Path) -> dict[str, Any]:
    return load_checkpoint(list_checkpoints(run_dir / "checkpoints")[-1])


def weights(payload: dict[str, Any]) -> Tensor:
    return torch.cat([each.double().flatten() for each in payload["network"]["weights"].values()])


@pytest.mark.parametrize("rule", ["masks", pytest.param("scales", marks=pytest.mark.long)])
def test_a_run_that_was_stopped_within_a_phase_is_the_run(
    rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "KEPT_WITHIN_TASK", 99)
    start(tmp_path / "whole", rule)
    start(tmp_path / "parts", rule, "trainer.checkpoint_steps=5", "trainer.stop_after_task=1")
    within = [path for path in list_checkpoints(tmp_path / "parts" / "checkpoints") if "step" in path.name]
    (middle,) = [path for path in within if "task_001_item_01" in path.name][1:2]
    state = load_checkpoint(middle)["network"]["weights"]
    if rule == "masks":
        sharp = state["extractors.1.sharpness"].item()
        assert 0.01 < sharp < 100, "in the middle of an epoch"
    for path in list_checkpoints(tmp_path / "parts" / "checkpoints"):
        if path.name > middle.name:
            path.unlink()
    execute(load_saved(tmp_path / "parts", ["trainer.stop_after_task=null"]), resume=True)
    whole, parts = last(tmp_path / "whole"), last(tmp_path / "parts")
    assert torch.equal(weights(whole), weights(parts))
    assert (whole["matrices"], whole["memory"]) == (parts["matrices"], parts["memory"])
    assert whole["network"]["structure"] == parts["network"]["structure"]


def test_what_is_left_is_reported(tmp_path: Path) -> None:
    start(tmp_path / "run", "masks", "trainer.stop_after_task=1")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    counted = [task["parameters"] for task in results["tasks"]]
    payload = last(tmp_path / "run")
    own = [k for k in payload["network"]["weights"] if not k.endswith(("mean", "var", "tracked"))]
    assert counted[-1] == sum(payload["network"]["weights"][name].numel() for name in own)
    assert counted[0] < 75_000, "the dense extractor alone has more"
    assert results["protocol"]["origin"] == "reconstruction"
    assert any("calibrate_pruning.py" in note for note in results["notes"])
    log = (tmp_path / "run" / "run.log").read_text()
    assert "parameters are left" in log


@pytest.mark.long
@pytest.mark.parametrize("rule", RULES)
def test_replayed_steps_read_the_sharpness_of_their_own(
    rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(tmp_path / "plain", rule)
    recorder = ByHand()
    monkeypatch.setattr(Learner, "replayable", lambda self: self.method.cuda_graph_safe)
    monkeypatch.setattr(lightning_module, "CudaRecorder", lambda: recorder)
    start(tmp_path / "replayed", rule)
    assert recorder.replays > 3 * recorder.records > 0
    plain, again = last(tmp_path / "plain"), last(tmp_path / "replayed")
    torch.testing.assert_close(weights(again), weights(plain), atol=1e-6, rtol=1e-5)
    assert again["matrices"] == plain["matrices"]


@pytest.mark.long
@pytest.mark.parametrize("rule", RULES)
def test_a_pruned_network_goes_wherever_a_run_goes(rule: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    start(run, rule)
    expected = open_run(run).predict(IMAGES)["linear"]
    assert export([str(run), "--out", str(tmp_path / "out"), "--formats", "safetensors", "torch_export"]) == 0
    torch.testing.assert_close(load_exported(tmp_path / "out").predict(IMAGES)["linear"], expected)
    assert bundle(["export", str(run), str(tmp_path / "run.bundle")]) == 0
    assert bundle(["import", str(tmp_path / "run.bundle"), str(tmp_path / "again")]) == 0
    torch.testing.assert_close(open_run(tmp_path / "again").predict(IMAGES)["linear"], expected)
