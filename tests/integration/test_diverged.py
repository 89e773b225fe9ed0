"""A run that diverges in the last step of a phase, or in what comes after it, ends with a line and code 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cl_lightning.checkpoint.files import list_checkpoints
from cl_lightning.methods import icarl
from cl_lightning.methods.dytox import DyTox
from cl_lightning.methods.wa import WA
from cl_lightning.models.embedding_network import EmbeddingNetwork
from tests.integration.commands import typed

TINY = ["data.increment=5", "trainer.progress=none", "epochs_scale=0.001", "-q"]
ONE_STEP = ["batch.size=1024"]
METHODS = {
    "finetune": [],
    "dytox": [],
    "wa": [],
    "der": [],
    "icarl": [],
    "meat": ["model=vit_tiny", "method.backbone_task=true", "model.depth=1"],
}


def diverged(run_dir: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    """The one line that is told."""
    assert typed(*TINY, f"run_dir={run_dir}", f"hydra.run.dir={run_dir}", *overrides) == 1
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    return line


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_only_step_breaks_the_weights(
    method: str, precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = tmp_path / "run"
    phase = "backbone" if method == "meat" else "main"
    words = [f"method={method}", *METHODS[method], *ONE_STEP, f"method.{phase}.lr=1e33"]
    line = diverged(run_dir, capsys, *words, f"trainer.precision={precision}")
    assert f"at task 1, phase {phase}, step 1: lower method.{phase}.lr=" in line
    assert not (run_dir / "results.json").exists()
    kept = [path.name for path in list_checkpoints(run_dir / "checkpoints")]
    assert kept == ["task_000_item_01.pt"], "the network as it was before the phase"
    assert typed(f"resume={run_dir}", "verbose=0") == 1
    assert capsys.readouterr().err.splitlines() == [line], "it goes on from there, to the same end"


def spoil(network: EmbeddingNetwork) -> None:
    with torch.no_grad():
        network.classifier.weight[0] = math.nan


def broken_alignment(method: Any, name: str, task: Any, look: Any) -> None:
    spoil(method.network)


def broken_teacher(method: Any, task: Any, key: Any, look: Any) -> None:
    WA_GROW(method, task, key, look)
    if method.teacher is not None:
        spoil(method.teacher)


def broken_means(num_seen: int, look: Any, embed: Any, name: str) -> Tensor:
    return torch.full((num_seen, 64), math.nan)


def broken_scores(method: Any, images: Tensor) -> dict[str, Tensor]:
    """One test image's of many: training images look well."""
    scores = DYTOX_PREDICT(method, images)
    if len(images) != EVALUATION:
        scores["linear"][-1, 0] = math.nan
    return scores


WA_GROW, DYTOX_PREDICT = WA.grow, DyTox.predict
EVALUATION = 50
ITEMS: dict[str, tuple[Any, str, Callable[..., Any], str, str]] = {
    "wa": (WA, "act", broken_alignment, "the weight classifier.weight is nan at task 2, act", "task_001_item_02.pt"),
    "wa, teacher": (WA, "grow", broken_teacher, "the weight classifier.weight is nan at task 2, grow", "task_000.pt"),
    "icarl": (icarl, "mean_exemplars", broken_means, "the class means is nan at task 1, act", "task_000_item_03.pt"),
    "dytox": (
        DyTox,
        "predict",
        broken_scores,
        "a linear score of a test image is nan at task 1, evaluate",
        "task_000_item_03.pt",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ITEMS)
def test_what_comes_after_a_phase_is_looked_at_too(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, name, instead, line, last = ITEMS[case]
    monkeypatch.setattr(kind, name, instead)
    method = case.partition(",")[0]
    told = diverged(tmp_path / "run", capsys, f"method={method}", f"batch.evaluation={EVALUATION}")
    assert told == f"error: {line}: it has diverged, lower lr_scale"
    assert list_checkpoints(tmp_path / "run" / "checkpoints")[-1].name == last
