"""Whole runs on real digits: every method learns, what cannot remember forgets, the files say what happened."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from cl_lightning.checkpoint.files import load_checkpoint
from cl_lightning.checkpoint.state import restore_network
from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.core.rng import Key
from cl_lightning.run.train import execute

SHORT = {
    "dytox": ["epochs_scale=0.04"],
    "dytox_plus": ["epochs_scale=0.06"],
    "dytox_plusplus": ["epochs_scale=0.06", "method.sam.rho=0.05"],
    "daformer_m": ["epochs_scale=0.06", "method.sam.rho=0.05"],
    "daformer_s": ["epochs_scale=0.06", "method.sam.rho=0.05"],
    "dkt": ["epochs_scale=0.06"],
    "finetune": ["epochs_scale=0.05"],
    "joint": ["epochs_scale=0.05"],
    "lwf": ["epochs_scale=0.04"],
    "icarl": ["epochs_scale=0.15", "lr_scale=0.25"],
    "ucir": ["epochs_scale=0.08"],
    "podnet": ["epochs_scale=0.08"],
    "bic": ["epochs_scale=0.05"],
    "rpsnet": ["epochs_scale=0.08", "method.candidates=2"],
    "e2e": ["epochs_scale=0.05", "balanced_epochs_scale=0.1"],
    "wa": ["epochs_scale=0.06"],
    "der": ["epochs_scale=0.04"],
    "hat": ["epochs_scale=0.06"],
    "simplecil": ["epochs_scale=0.06"],
    "ranpac": ["epochs_scale=0.06"],
}
"""Enough to learn the first three tasks of digits in seconds."""
FLOOR = {
    "lwf": 0.45, "simplecil": 0.6, "dytox": 0.6, "dytox_plus": 0.6, "dytox_plusplus": 0.5, "daformer_m": 0.5,
    "daformer_s": 0.5,
}  # fmt: skip
"""Last accuracy over six digits (chance: 1/6), 0.85 where nothing is said: DyTox wants more epochs than a test has."""
SIX_DIGITS = ["trainer.stop_after_task=2", "trainer.progress=none", "trainer.threads=1"]
THREE_TASKS = ["data.increment=[4,3,3]", "trainer.progress=none", "trainer.threads=1"]


def run(run_dir: Path, *overrides: str) -> dict[str, Any]:
    execute(compose_one_of_many([f"run_dir={run_dir}", *overrides])[0])
    return json.loads((run_dir / "results.json").read_text())


@pytest.mark.slow
def test_dytox_learns_two_digits_after_two(tmp_path: Path) -> None:
    """Golden vectors and recorded runs hold its steps; the tests of minutes have all methods and more classes."""
    results = run(tmp_path / "run", "epochs_scale=0.04", "trainer.stop_after_task=1", *SIX_DIGITS[1:])
    assert results["last_accuracy"] >= 0.65, results["accuracy_matrix"]  # of four digits, half of them if it forgets
    assert results["tasks"][0]["accuracy"]["class_incremental"]["linear"] >= 0.95


@pytest.mark.long
@pytest.mark.parametrize("method", SHORT)
def test_every_method_learns_digits(method: str, tmp_path: Path) -> None:
    results = run(tmp_path / "run", f"method={method}", *SHORT[method], *SIX_DIGITS)
    assert results["last_accuracy"] >= FLOOR.get(method, 0.85), results["accuracy_matrix"]
    assert results["tasks"][0]["accuracy"]["class_incremental"][results["protocol"]["readout"]] >= 0.85
    for task in results["tasks"]:
        for known in ("task_incremental", "task_inference"):
            for readout, accuracy in task["accuracy"][known].items():
                assert accuracy >= task["accuracy"]["class_incremental"][readout], "who is right has the task right"


@pytest.mark.long
def test_without_memory_plain_training_forgets(tmp_path: Path) -> None:
    results = run(tmp_path / "run", "method=finetune", "memory=none", "epochs_scale=0.05", *SIX_DIGITS)
    assert results["last_accuracy"] <= 0.45
    assert results["forgetting"] >= 0.5
    assert results["accuracy_matrix"]["class_incremental"]["linear"][-1][-1] >= 0.9, "the newest task is learnt"


@pytest.mark.slow
def test_files_of_a_run(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    short = ["epochs_scale=0.004", "balanced_epochs_scale=0.1", *THREE_TASKS]
    results = run(run_dir, *short)
    assert {p.name for p in run_dir.iterdir()} >= {
        "results.json", "accuracy_matrix.csv", "config.yaml", "run.log", "metrics.csv", "checkpoints"
    }  # fmt: skip
    assert not list(run_dir.rglob("*.part*")), "nothing half-written stays"
    assert [len(row) for row in results["accuracy_matrix"]["class_incremental"]["linear"]] == [1, 2, 3]
    assert list(results["accuracy_matrix"]) == ["class_incremental", "task_incremental", "task_inference"]
    assert results["protocol"]["tasks"] == [4, 3, 3]
    assert results["protocol"]["memory"] == "200 in total"

    rows = list(csv.DictReader((run_dir / "accuracy_matrix.csv").read_text().splitlines()))
    last = [r for r in rows if (r["protocol"], r["readout"], r["after_task"]) == ("class_incremental", "linear", "2")]
    hits, total = sum(int(r["hits"]) for r in last), sum(int(r["total"]) for r in last)
    assert total == 355, "each of the test images of digits is counted once"
    assert hits / total == pytest.approx(results["last_accuracy"])

    assert sorted(p.name for p in (run_dir / "checkpoints").iterdir()) == [
        "task_002.pt", "task_002_item_03.pt", "task_002_item_04.pt"
    ]  # fmt: skip
    config = yaml.safe_load((run_dir / "config.yaml").read_text())
    assert config["recipe"]["name"] == "clean"
    assert config["model"]["name"] == "convit_tiny"

    points = list(csv.DictReader((run_dir / "metrics.csv").read_text().splitlines()))
    steps = [float(r["step"]) for r in points if r["loss/total"]]
    assert steps == sorted(steps)
    assert len(set(steps)) == len(steps), "one continuous axis over all phases"


@pytest.mark.long
def test_a_checkpoint_holds_the_model_that_was_evaluated(tmp_path: Path) -> None:
    results = run(tmp_path / "run", "epochs_scale=0.01", "balanced_epochs_scale=0.2", *THREE_TASKS)
    payload = load_checkpoint(tmp_path / "run" / "checkpoints" / "task_002.pt")
    network = restore_network(payload["network"]).eval()
    assert payload["identity"]["class_names"] == [str(digit) for digit in range(10)]
    assert sum(len(rows) for rows in payload["memory"]["lists"][0].values()) <= 200
    from cl_lightning.data.loading import Pipeline
    from cl_lightning.data.sources.datasets import load_sources

    _, test = load_sources("digits")
    assert test is not None
    images = Pipeline(8, (0.3053,), (0.3760,), None, Key(0)).on_device(test.pixels, torch.arange(len(test)), 0)  # type: ignore[attr-defined]
    with torch.no_grad():
        predicted = network.logits(network(images)).argmax(dim=1)
    assert (predicted == test.labels).double().mean().item() == pytest.approx(results["last_accuracy"])


@pytest.mark.long
def test_equal_seeds_give_equal_runs_and_other_seeds_do_not(tmp_path: Path) -> None:
    short = ["epochs_scale=0.004", "balanced_epochs_scale=0.05", *THREE_TASKS]
    first = run(tmp_path / "a", *short)
    torch.manual_seed(12345)  # whatever happened before in this process
    again, other = run(tmp_path / "b", *short), run(tmp_path / "c", "seed=1", *short)
    for results in (first, again, other):
        del results["provenance"]
    assert first == again
    weights = [load_checkpoint(tmp_path / d / "checkpoints" / "task_002.pt")["network"]["weights"] for d in "abc"]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not torch.equal(weights[0]["encoder.patch_embed.weight"], weights[2]["encoder.patch_embed.weight"])
    assert other["accuracy_matrix"] != first["accuracy_matrix"]


@pytest.mark.slow
def test_validation_share_is_evaluated_on_instead_of_the_test_images(tmp_path: Path) -> None:
    short = ["epochs_scale=0.004", "balanced_epochs_scale=0.1", *THREE_TASKS]
    results = run(tmp_path / "run", "data.validation=0.25", *short)
    assert results["protocol"]["evaluates_on"] == "validation"
    rows = list(csv.DictReader((tmp_path / "run" / "accuracy_matrix.csv").read_text().splitlines()))
    total = sum(int(r["total"]) for r in rows if r["after_task"] == "2" and r["protocol"] == "class_incremental")
    assert 0.23 * 1442 < total < 0.27 * 1442


@pytest.mark.slow
@pytest.mark.parametrize(("scope", "lists"), [("per_replica", 2), pytest.param("global", 1, marks=pytest.mark.long)])
def test_two_replicas_keep_the_budget_in_total_whatever_the_scope(scope: str, lists: int, tmp_path: Path) -> None:
    run(
        tmp_path / "run", "recipe=erratum_2022_06", "recipe.repeated_augmentation=false", f"memory.scope={scope}",
        "batch.size=16", "epochs_scale=0.004", "balanced_epochs_scale=0.1", *THREE_TASKS,
    )  # fmt: skip
    memory = load_checkpoint(tmp_path / "run" / "checkpoints" / "task_002.pt")["memory"]
    assert (memory["replicas"], len(memory["lists"])) == (2, lists)
    kept = [{row for rows in exemplars.values() for row in rows} for exemplars in memory["lists"]]
    assert sum(map(len, kept)) == 200, "ten classes of 20, or of 10 in each of two lists"
    assert {len(rows) for exemplars in memory["lists"] for rows in exemplars.values()} == {20 // lists}
    assert kept[0] != kept[-1] or lists == 1, "each replica chooses on its own augmentations"


@pytest.mark.slow
def test_a_joint_single_task_runs_without_anything_old(tmp_path: Path) -> None:
    results = run(
        tmp_path / "run",
        "data.increment=10",
        "epochs_scale=0.004",
        "balanced_epochs_scale=0.1",
        "trainer.progress=none",
    )
    assert results["forgetting"] is None
    assert results["backward_transfer"] is None
    assert len(results["tasks"]) == 1


ALL_OFF = {
    "distillation": "method.distillation=false",
    "fine-tuning": "method.finetuning=null",
    "token expansion": "method.token_expansion=false",
    "divergence head": "method.divergence_weight=0",
    "independent heads": "method.independent_heads=false",
}
"""What the paper's ablation takes away from DyTox."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "without",
    ["all", *(pytest.param(part, marks=pytest.mark.long) for part in ("token expansion", "independent heads"))],
)
def test_dytox_runs_without_each_and_without_all_of_its_components(tmp_path: Path, without: str) -> None:
    off = [*ALL_OFF.values()] if without == "all" else [ALL_OFF[without]]
    results = run(tmp_path / "run", *off, "epochs_scale=0.004", "balanced_epochs_scale=0.1", *THREE_TASKS)
    assert [task["classes"] for task in results["tasks"]] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    payload = load_checkpoint(tmp_path / "run" / "checkpoints" / "task_002.pt")
    network = restore_network(payload["network"])
    assert network.structure()["classes"] == [4, 3, 3]
    assert len(network.parts()["old_tokens"]) == (2 if "method.token_expansion=false" not in off else 0)
    assert (payload["teacher"] is None) == ("method.distillation=false" in off)
    if payload["teacher"] is not None:
        assert restore_network(payload["teacher"]).structure()["classes"] == [4, 3]


@pytest.mark.long
def test_all_other_switches_of_losses_and_herding_run_together(tmp_path: Path) -> None:
    results = run(
        tmp_path / "run", "method=dytox_plusplus", "method.sam.rho=0.05", "method.mixup.in_finetuning=false",
        "recipe.mixup_softmax=true", "recipe.distillation_class_mean=false", "recipe.herd_distinct=true",
        "recipe.herd_after_finetuning=true", "epochs_scale=0.004", "balanced_epochs_scale=0.1", *THREE_TASKS,
    )  # fmt: skip
    protocol = results["protocol"]
    assert protocol["recipe_changes"] == (
        "mixup_softmax=True, distillation_class_mean=False, herd_distinct=True, herd_after_finetuning=True"
    )
    assert protocol["recipe_switches"]["herd_after_finetuning"] is True
    memory = load_checkpoint(tmp_path / "run" / "checkpoints" / "task_002.pt")["memory"]
    assert {len(rows) for rows in memory["lists"][0].values()} == {20}


@pytest.mark.slow
@pytest.mark.parametrize(("overrides", "told"), [
    (["recipe.herd_augmented=false"], "of 100 in total only 50 in total are different images"),
    (["recipe.herd_augmented=true"], None),
    (["method=wa"], "of 100 in total only 50 in total are different images"),
    (["memory=per_class", "memory.size=6"], "of 6 per class only 3 per class are different images"),
])  # fmt: skip
def test_replicas_that_choose_the_same_exemplars_are_reported(
    tmp_path: Path, overrides: list[str], told: str | None
) -> None:
    run(
        tmp_path / "run", "memory.size=100", *overrides, "memory.scope=per_replica", "batch.replicas=2",
        "epochs_scale=0.004", "balanced_epochs_scale=0.1", "trainer.stop_after_task=0", *THREE_TASKS,
    )  # fmt: skip
    lines = [line for line in (tmp_path / "run" / "run.log").read_text().splitlines() if "same exemplars" in line]
    assert len(lines) == (0 if told is None else 1)
    if told is not None:
        assert told in lines[0]
        assert "type memory.scope=global" in lines[0]
        lists = load_checkpoint(tmp_path / "run" / "checkpoints" / "task_000.pt")["memory"]["lists"]
        assert lists[0] == lists[1]
