"""Whole runs on several processes: from equal weights the same exemplars and counts, and any number may go on."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_lightning.checkpoint import files
from cl_lightning.checkpoint.files import list_checkpoints, load_checkpoint
from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.config.saved import load_saved
from cl_lightning.distributed.rank import RankInfo
from cl_lightning.run.train import execute
from tests.integration.distributed.forked import in_processes

pytestmark = pytest.mark.slow
FEW_STEPS = ["epochs_scale=0.004", "balanced_epochs_scale=0.05", "data.increment=5", "trainer.progress=none"]
FOUR = ["batch.replicas=4", "batch.size=8", "memory.size=80"]


def learn(world: int, run_dir: Path, overrides: list[str], resume: bool = False) -> list[float]:
    """What ``world`` processes return that make a run together."""

    def work(rank: int, world: int) -> float:
        files.KEPT_WITHIN_TASK = 99
        place = RankInfo(rank, world, rank, world) if world > 1 else None
        if resume:
            return execute(load_saved(run_dir, overrides), resume=True, rank=place)
        return execute(compose_one_of_many([*FEW_STEPS, *overrides, f"run_dir={run_dir}"])[0], rank=place)

    return in_processes(world, work)


def counted(run_dir: Path) -> dict[str, Any]:
    """Exemplars and counts of the last checkpoint."""
    payload = load_checkpoint(list_checkpoints(run_dir / "checkpoints")[-1])
    return {"memory": payload["memory"], "matrices": payload["matrices"], "tasks": len(payload["records"])}


METHODS = {
    "dytox": ["memory.scope=per_replica", "recipe.herd_augmented=true", "method.finetuning=null"],
    "dkt": ["recipe.herd_augmented=true", "method.finetuning=null", "data.cutout=3"],
    "icarl": [],
    "ucir": [],
    "podnet": [],
    "bic": ["memory.size=200"],
    "rpsnet": ["memory.size=200"],
    "e2e": ["method.first=null", "method.copies=2"],
    "wa": [],
    "hat": [],
}
BEFORE = {"bic": 3, "rpsnet": 3}
"""Items of the first task before anything is chosen, where they are not growth and a phase alone."""


@pytest.mark.parametrize(
    "method", [pytest.param(method, marks=[] if method == "dytox" else [pytest.mark.long]) for method in METHODS]
)
def test_from_equal_weights_any_number_of_processes_keeps_the_same_images_and_counts_the_same(
    method: str, tmp_path: Path
) -> None:
    options = [f"method={method}", *FOUR, *METHODS[method], "trainer.stop_after_task=0"]
    learn(1, tmp_path / "one", options)
    items = BEFORE.get(method, 2)
    trained = tmp_path / "one" / "checkpoints" / f"task_000_item_{items:02}.pt"  # grown and trained, nothing chosen yet
    expected = counted(tmp_path / "one")
    assert expected["tasks"] == 1
    for world in (1, 2, 4):
        again = tmp_path / f"again_{world}"
        (again / "checkpoints").mkdir(parents=True)
        shutil.copy(trained, again / "checkpoints")
        shutil.copy(tmp_path / "one" / "config.yaml", again)
        values = learn(world, again, ["trainer.stop_after_task=0", "evaluate_phases=true"], resume=True)
        assert len(set(values)) == 1, "every process knows the outcome"
        assert counted(again) == expected
        (after,) = load_checkpoint(again / "checkpoints" / "task_000.pt")["after_phases"]
        assert (after["task"], after["phase"]) == (0, "main"), "the phase that had ended is evaluated now"
        for protocol, readouts in after["counts"].items():
            assert list(readouts) == ["linear"]
            row = expected["matrices"][protocol]["linear"][0]
            assert list(map(list, readouts["linear"])) == list(map(list, row))


@pytest.mark.long
def test_any_number_of_processes_prunes_the_same_channels(tmp_path: Path) -> None:
    learn(1, tmp_path / "one", ["method=der", "method.pruning.rule=masks", *FOUR, "trainer.stop_after_task=0"])
    trained = tmp_path / "one" / "checkpoints" / "task_000_item_02.pt"  # nothing is pruned yet
    expected = load_checkpoint(tmp_path / "one" / "checkpoints" / "task_000.pt")
    assert load_checkpoint(trained)["network"]["structure"]["backbones"][0]["kept"] is None
    for world in (1, 2, 4):
        again = tmp_path / f"again_{world}"
        (again / "checkpoints").mkdir(parents=True)
        shutil.copy(trained, again / "checkpoints")
        shutil.copy(tmp_path / "one" / "config.yaml", again)
        assert len(set(learn(world, again, ["trainer.stop_after_task=0"], resume=True))) == 1
        assert counted(again) == counted(tmp_path / "one")
        network = load_checkpoint(again / "checkpoints" / "task_000.pt")["network"]
        assert network["structure"] == expected["network"]["structure"]
        for name, value in expected["network"]["weights"].items():
            assert torch.equal(network["weights"][name], value)


@pytest.mark.long
def test_two_processes_train_the_masks_that_one_does(tmp_path: Path) -> None:
    options = ["method=der", "method.pruning.rule=masks", *FOUR, "trainer.stop_after_task=0"]
    logits = []
    for world in (1, 2):
        run = tmp_path / f"of_{world}"
        assert len(set(learn(world, run, [*options, f"trainer.devices={world}"]))) == 1
        trained = load_checkpoint(run / "checkpoints" / "task_000_item_02.pt")
        logits.append(trained["network"]["weights"]["extractors.0.logits"])
    torch.testing.assert_close(logits[0], logits[1], atol=1e-3, rtol=1e-3)


@pytest.mark.long
@pytest.mark.parametrize("method", [["simplecil"], ["ranpac", "method.projection=300", "method.ridge=all"]])
def test_from_equal_features_any_number_of_processes_has_the_same_sums(method: list[str], tmp_path: Path) -> None:
    name, *own = method
    options = [f"method={name}", *own, *FOUR, "evaluate_phases=true"]
    learn(1, tmp_path / "one", [*options, "trainer.stop_after_task=0"])
    trained = tmp_path / "one" / "checkpoints" / "task_000_item_02.pt"  # grown and trained, nothing summed yet
    found = []
    for world in (1, 2, 4):
        again = tmp_path / f"again_{world}"
        (again / "checkpoints").mkdir(parents=True)
        shutil.copy(trained, again / "checkpoints")
        shutil.copy(tmp_path / "one" / "config.yaml", again)
        values = learn(world, again, ["trainer.stop_after_task=null"], resume=True)
        assert len(set(values)) == 1, "every process knows the outcome"
        found.append(load_checkpoint(again / "checkpoints" / "task_001.pt"))
    for other in found[1:]:
        assert other["matrices"] == found[0]["matrices"]
        assert set(other["extra"]) == set(found[0]["extra"])
        for key, value in other["extra"].items():
            torch.testing.assert_close(value, found[0]["extra"][key], rtol=1e-6, atol=1e-6)


@pytest.mark.long
def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    learn(2, tmp_path / "run", [*FOUR, "trainer.devices=2", "trainer.checkpoint_steps=2", "trainer.stop_after_task=0"])
    first = counted(tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "task_000.pt").unlink()  # so that it goes on in the middle of the task
    values = learn(4, tmp_path / "run", ["trainer.devices=4"], resume=True)
    assert len(set(values)) == 1
    payload = load_checkpoint(tmp_path / "run" / "checkpoints" / "task_001.pt")
    assert len(payload["records"]) == 2
    assert payload["matrices"]["class_incremental"]["linear"][0] == first["matrices"]["class_incremental"]["linear"][0]
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == [
        "accuracy_matrix.csv",
        "checkpoints",
        "config.yaml",
        "images.csv.gz",
        "metrics.csv",
        "results.json",
        "run.log",
    ]
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == sorted(steps)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_digits_come_out_alike_on_one_process_and_on_two(tmp_path: Path) -> None:
    """Rounding differs, and training amplifies it: docs/guide/clusters.md has the spread over seeds."""
    whole = ["data.increment=2", "epochs_scale=0.08", "balanced_epochs_scale=1", *FOUR[:2]]
    (alone,) = learn(1, tmp_path / "one", whole)
    together = learn(2, tmp_path / "two", whole)
    assert together[0] == together[1]
    assert abs(together[0] - alone) < 0.05


def test_all_processes_end_a_phase_at_the_same_step(tmp_path: Path) -> None:
    """Else one would wait for the other for ever; each judges a share of the images set aside."""
    stops = ["early_stopping.patience=1", "data.validation=0.2", "method.main.schedule=constant", "batch.evaluation=16"]
    options = ["method=wa", "epochs_scale=0.1", *FOUR, *stops, "trainer.stop_after_task=0"]
    learn(2, tmp_path / "two", options)
    (phase,) = load_checkpoint(list_checkpoints(tmp_path / "two" / "checkpoints")[-1])["phases"]
    learn(1, tmp_path / "one", options)
    (alone,) = load_checkpoint(list_checkpoints(tmp_path / "one" / "checkpoints")[-1])["phases"]
    steps = 577 // 32
    assert 0 < phase["steps"] < 17 * steps
    assert phase["steps"] % steps == alone["steps"] % steps == 0, "whole epochs"


@pytest.mark.long
def test_any_number_of_processes_chooses_the_same_path(tmp_path: Path) -> None:
    """From equal weights of two candidates, of which the second is still to be scored."""
    options = ["method=rpsnet", "method.path_every=1", "method.candidates=2", *FOUR, "memory.size=200"]
    learn(1, tmp_path / "one", options)
    trained = tmp_path / "one" / "checkpoints" / "task_001_item_07.pt"
    payload = load_checkpoint(tmp_path / "one" / "checkpoints" / "task_001.pt")
    for world in (2, 4):
        again = tmp_path / f"again_{world}"
        (again / "checkpoints").mkdir(parents=True)
        shutil.copy(trained, again / "checkpoints")
        shutil.copy(tmp_path / "one" / "config.yaml", again)
        assert len(set(learn(world, again, [], resume=True))) == 1, "every process knows the outcome"
        found = load_checkpoint(again / "checkpoints" / "task_001.pt")
        assert found["network"]["structure"] == payload["network"]["structure"]
        weights = found["network"]["weights"]
        assert all(torch.equal(weights[name], value) for name, value in payload["network"]["weights"].items())
        assert (found["memory"], found["matrices"]) == (payload["memory"], payload["matrices"])
