"""Whole runs whose steps are replayed: by a stand-in here, by CUDA graphs where there is a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.checkpoint.files import load_checkpoint
from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.learning import lightning_module
from cl_lightning.learning.lightning_module import Learner
from cl_lightning.run.train import execute
from tests.learning.recorder import ByHand

SHORT = [
    "epochs_scale=0.004", "balanced_epochs_scale=0.1", "data.classes=5", "data.increment=[3,2]", "trainer.progress=none"
]  # fmt: skip
SGD = ["method.main.optimiser=sgd"]
"""AdamW divides by what may be nothing but rounding: runs whose rates differ by 1e-7 end with other weights."""
FINETUNING = ["method.finetuning.optimiser=sgd"]
BACKBONE = ["method.backbone.optimiser=sgd", "method.backbone.lr=0.04", "method.backbone.epochs=50"]
METHODS = {
    "dytox": [*SGD, *FINETUNING, "method.mixup.alpha=0.8", "method.reconstruction.weight=0.5"],
    "dytox_plusplus": [*SGD, *FINETUNING, "batch.replicas=2", "batch.size=16"],
    "daformer_m": [*SGD, *FINETUNING, "method.sam.rho=0", "method.neighbours.form=similarity", "method.neighbours.k=3"],
    "dkt": [*SGD, *FINETUNING],
    "meat": [*SGD, *BACKBONE],
    "individual": [*SGD, *BACKBONE],
    "hat": ["model=alexnet_tiny", "method.s_max=50"],
    "finetune": [*SGD, "method.main.lr=0.04"],
    "icarl": [],
    "lwf": [],
    "ucir": ["method.finetune=true"],
    "podnet": [],
    "bic": [],
    "rpsnet": [*SGD, "method.main.lr=0.01", "method.path_every=1", "method.candidates=2"],
    "e2e": ["method.copies=2", "data.augmentation=variants"],
    "wa": [],
    "der": [],
    "simplecil": [],
    "ranpac": ["method.projection=200"],
}
"""Each is recorded anew for every phase of every task."""
OFTEN = ("meat", "der")


def learn(run_dir: Path, method: str, *overrides: str) -> tuple[Tensor, Any]:
    """Weights after the last task, and the accuracy matrices."""
    config, _ = compose_one_of_many([f"run_dir={run_dir}", f"method={method}", *SHORT, *METHODS[method], *overrides])
    execute(config)
    payload = load_checkpoint(run_dir / "checkpoints" / "task_001.pt")
    weights = [weight.double().flatten() for weight in payload["network"]["weights"].values()]
    return torch.cat(weights), payload["matrices"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=[] if name in OFTEN else [pytest.mark.long]) for name in METHODS]
)
def test_replayed_runs_are_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    weights, matrices = learn(tmp_path / "plain", method)
    recorder = ByHand()
    monkeypatch.setattr(Learner, "replayable", lambda self: self.method.cuda_graph_safe)
    monkeypatch.setattr(lightning_module, "CudaRecorder", lambda: recorder)
    again, counted = learn(tmp_path / "replayed", method)
    assert recorder.replays > 3 * recorder.records > 0
    torch.testing.assert_close(again, weights, atol=1e-6, rtol=1e-5)
    assert counted == matrices


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_on_a_gpu_every_method_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    """Rounding may differ, as kernels of ResNets do not add in one order; the networks stay together."""
    recorded: list[bool] = []
    close = Learner.close
    monkeypatch.setattr(Learner, "close", lambda self: (recorded.append(self.recorded), close(self))[1])
    on_gpu = ["trainer=gpu", "trainer.precision=bf16-mixed"]
    weights, _ = learn(tmp_path / "plain", method, *on_gpu, "trainer.cuda_graphs=false")
    assert not any(recorded)
    recorded.clear()
    again, _ = learn(tmp_path / "replayed", method, *on_gpu)
    assert recorded
    assert all(recorded)
    given_up = [record.getMessage() for record in caplog.records if "cuda_graphs=false" in record.getMessage()]
    assert not given_up
    assert again.isfinite().all()
    assert (again - weights).norm() < 0.02 * weights.norm()
