"""A run whose phases end early: evaluated on test images, and after an interruption the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cl_lightning.checkpoint import files
from cl_lightning.checkpoint.files import list_checkpoints
from tests.integration.commands import outcome, typed

pytestmark = pytest.mark.slow
STOPS = [
    "method=finetune", "memory=none", "data.increment=5", "epochs_scale=0.03", "method.main.schedule=constant",
    "early_stopping.patience=1", "early_stopping.min_delta=0.02", "data.validation=0.2",
    "data.balance=sampling", "trainer.progress=none", "trainer.checkpoint_steps=5", "trainer.log_every=3",
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "KEPT_WITHIN_TASK", 99)
        assert typed(*STOPS, f"run_dir={run_dir}", f"hydra.run.dir={run_dir}") == 0
    return run_dir


def test_phases_end_early_and_test_images_are_evaluated_on(whole: Path) -> None:
    results = json.loads((whole / "results.json").read_text())
    assert results["protocol"]["evaluates_on"] == "test"
    assert results["protocol"]["early_stopping"] == "accuracy, patience 1, min_delta 0.02"
    assert results["protocol"]["epochs"] == "at most 15 main"
    assert set(results["images"]) == {"train", "validation", "test"}
    assert sum(results["images"]["test"].values()) == 355
    assert sum(results["images"]["validation"].values()) == 288
    assert results["data_identity"]["validation"] is not None
    told = (whole / "run.log").read_text()
    for phase in results["provenance"]["phases"]:
        epochs = phase["steps"] / (len(results["images"]["train"]) and 18)
        assert epochs < 15
        assert f"task {phase['task'] + 1}, phase main: {round(epochs)} of at most 15 epochs, kept the network" in told


def test_from_any_checkpoint_it_goes_on_to_the_same_bits(whole: Path, tmp_path: Path) -> None:
    within = [path.name for path in list_checkpoints(whole / "checkpoints") if "_step_" in path.name]
    assert len(within) > 2
    for place in (within[0], within[-1]):
        run_dir = tmp_path / place
        shutil.copytree(whole, run_dir)
        for path in list_checkpoints(run_dir / "checkpoints"):
            if path.name > place and place != "task_001.pt":
                path.unlink()
        (run_dir / "checkpoints" / "task_001.pt").unlink(missing_ok=True)
        assert typed(f"resume={run_dir}") == 0
        assert outcome(run_dir) == outcome(whole)
