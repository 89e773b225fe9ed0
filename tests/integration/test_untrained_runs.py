"""Whole runs in which no task trains anything: the backbone comes with its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_lightning.bundle.__main__ import main as bundle
from cl_lightning.checkpoint.files import load_checkpoint
from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.config.saved import load_saved
from cl_lightning.core.rng import Key, torch_seeded
from cl_lightning.models.plain_vit import PlainViT
from cl_lightning.run.train import execute
from tests.integration.commands import typed
from tests.integration.test_learn import write_digits

pytestmark = pytest.mark.slow
VIT = {"image_size": 8, "channels": 1, "patch_size": 4, "dim": 16, "depth": 1, "num_heads": 2}
MODEL = ["model=vit_tiny", "model.patch_size=4", "model.dim=16", "model.depth=1", "model.num_heads=2"]
SHORT = [*MODEL, "data.increment=[4,3,3]", "trainer.progress=none", "trainer.threads=1", "evaluate_phases=true"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "vit.pth"
    with torch_seeded(Key(0)):
        torch.save(PlainViT(**VIT).state_dict(), file)  # type: ignore[arg-type]
    return file


def learn(run_dir: Path, weights: Path, *overrides: str) -> None:
    given = [f"run_dir={run_dir}", f"method.backbone_file={weights}", *SHORT, *overrides]
    execute(compose_one_of_many(given)[0])


def outcome(run_dir: Path) -> dict[str, Any]:
    payload = load_checkpoint(run_dir / "checkpoints" / "task_002.pt")
    extra = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in payload["extra"].items()}
    results = json.loads((run_dir / "results.json").read_text())
    return {"extra": extra, "matrices": payload["matrices"], "accuracy": results["accuracy_matrix"]}


@pytest.mark.parametrize(
    "method", [["ranpac", "method.projection=50"], pytest.param(["simplecil"], marks=pytest.mark.long)]
)
def test_a_run_that_trains_nothing_is_a_run(method: list[str], weights: Path, tmp_path: Path) -> None:
    name, *own = method
    learn(tmp_path / "whole", weights, f"method={name}", *own, "report.page=true")
    results = json.loads((tmp_path / "whole" / "results.json").read_text())
    assert (results["protocol"]["epochs"], results["provenance"]["phases"]) == ("none", [])
    assert "phase_accuracy" not in results
    assert results["last_accuracy"] > 0.25, "chance is a tenth, and the weights are drawn"
    page = (tmp_path / "whole" / "report.html").read_text()
    assert "none: the network came trained, and stayed as it was" in page
    assert "no probabilities" in page
    assert "Confidence and accuracy" not in page
    learn(tmp_path / "parts", weights, f"method={name}", *own, "trainer.stop_after_task=0")
    (tmp_path / "parts" / "checkpoints" / "task_000.pt").unlink()  # so that it goes on between the items of a task
    execute(load_saved(tmp_path / "parts", ["trainer.stop_after_task=null"]), resume=True)
    assert outcome(tmp_path / "parts") == outcome(tmp_path / "whole")


@pytest.mark.parametrize(
    "method", [pytest.param(["ranpac", "method.projection=50"], marks=pytest.mark.long), ["simplecil"]]
)
def test_a_finished_run_is_taught_a_class_by_sums_alone(method: list[str], weights: Path, tmp_path: Path) -> None:
    """From its data, and from a bundle that has none of its images: the same sums, and a mean never moves."""
    name, *own = method
    learn(tmp_path / "run", weights, f"method={name}", *own, "data.classes=7", "data.increment=[4,3]")
    folder = write_digits(tmp_path / "more", seven=7)
    assert bundle(["export", str(tmp_path / "run"), str(tmp_path / "run.zip")]) == 0
    assert bundle(["import", str(tmp_path / "run.zip"), str(tmp_path / "elsewhere")]) == 0
    for start in ("run", "elsewhere"):
        assert typed(f"learn={tmp_path / start}", f"data.new={folder}", f"run_dir={tmp_path / start}_more") == 0
    one, other = outcome(tmp_path / "run_more"), outcome(tmp_path / "elsewhere_more")
    assert one["extra"] == other["extra"]
    assert one["accuracy"]["class_incremental"]["linear"][2][2] is not None
    before = load_checkpoint(tmp_path / "run" / "checkpoints" / "task_001.pt")["extra"]
    if name == "simplecil":
        assert one["extra"]["sums"][:7] == before["sums"].tolist()
    else:
        assert one["extra"]["images"] > before["images"]
