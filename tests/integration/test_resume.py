"""Going on with a run after its last finished task: the same numbers as a run that was never stopped."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_lightning.__main__ import main
from cl_lightning.checkpoint.files import load_checkpoint, save_whole
from cl_lightning.config.compose import compose_one_of_many
from cl_lightning.run.run_dir import commit
from cl_lightning.run.train import execute

SHORT = ["epochs_scale=0.004", "balanced_epochs_scale=0.1", "data.increment=[4,3,3]", "trainer.progress=none"]
METHODS = {
    "dytox": ["memory.scope=per_replica", "batch.replicas=2", "batch.size=16", "recipe.herd_augmented=true"],
    "dkt": ["memory.size=40"],
    "icarl": [],
    "lwf": [],
    "ucir": ["method.finetune=true"],
    "podnet": [],
    "bic": [],
    "rpsnet": ["method.path_every=1", "method.candidates=2"],
    "e2e": ["method.copies=2", "data.augmentation=variants"],
    "wa": [],
    "der": [],
    "finetune": ["memory=none"],
    "joint": [],
    "meat": ["method.backbone.epochs=250"],
    "hat": ["model=alexnet_tiny", "batch.size=48"],
    "simplecil": [],
    "ranpac": ["method.projection=200"],
}

MARKS = {
    "dytox": [pytest.mark.slow],
    "icarl": [pytest.mark.slow],
    "ranpac": [pytest.mark.slow],
}
"""The others are killed again and again in tests/scripts/test_kill_test.py."""


def learn(run_dir: Path, *overrides: str) -> None:
    execute(compose_one_of_many([f"run_dir={run_dir}", *SHORT, *overrides])[0])


def outcome(run_dir: Path) -> dict[str, Any]:
    """Everything that two equal runs must have in common."""
    results = json.loads((run_dir / "results.json").read_text())
    del results["provenance"]
    payload = load_checkpoint(run_dir / "checkpoints" / "task_002.pt")
    weights = {name: weight.tolist() for name, weight in payload["network"]["weights"].items()}
    texts = [(run_dir / name).read_text() for name in ("metrics.csv", "accuracy_matrix.csv")]
    return {"results": results, "weights": weights, "memory": payload["memory"], "texts": texts}


def resume(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """``python -m cl_lightning ...`` in this process; returns the exit code."""
    monkeypatch.setattr(sys, "argv", ["cl_lightning", *arguments])
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


PHASES = {
    "dytox": ["main", "finetuning"],
    "dkt": ["main", "finetuning"],
    "der": ["main", "classifier"],
    "ucir": ["main", "balanced_finetuning"],
    "podnet": ["main", "finetuning"],
    "bic": ["main", "bias_correction"],
    "rpsnet": ["path_0", "path_1"],
    "e2e": ["main", "balanced"],
    "simplecil": [],
    "ranpac": [],
}
"""Of a task that is not the first; ``main`` alone where nothing is said."""


def without_phases(made: dict[str, Any]) -> dict[str, Any]:
    """``outcome`` without what an evaluation after each phase adds to it."""
    results = {name: value for name, value in made["results"].items() if name != "phase_accuracy"}
    curves = [
        {name: value for name, value in row.items() if not name.startswith("phase/")}
        for row in csv.DictReader(made["texts"][0].splitlines())
        if not row.get("phase/index")
    ]
    return {**made, "results": results, "texts": [curves, made["texts"][1]]}


@pytest.mark.parametrize("method", [pytest.param(m, marks=MARKS.get(m, [pytest.mark.long])) for m in METHODS])
def test_a_run_in_two_parts_is_the_run_in_one_and_evaluating_phases_moves_nothing(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second part also evaluates after each phase: weights, exemplars, counts and losses stay, to the bit."""
    options = [f"method={method}", *METHODS[method]]
    learn(tmp_path / "whole", *options)
    learn(tmp_path / "parts", *options, "trainer.stop_after_task=0")
    told = ", the task being told" if method in ("meat", "hat") else ""
    assert re.search(
        rf"after task 1/3: .* % of all classes seen so far{told}$", (tmp_path / "parts/run.log").read_text(), re.M
    )
    torch.manual_seed(99)  # whatever the second process did before
    assert resume(monkeypatch, f"resume={tmp_path / 'parts'}", "evaluate_phases=true") == 0
    whole, parts = outcome(tmp_path / "whole"), outcome(tmp_path / "parts")
    assert without_phases(parts) == without_phases(whole)
    assert "phase_accuracy" not in whole["results"]
    assert not (tmp_path / "whole" / "accuracy_after_phases.csv").exists()
    expect_phases(method, parts)


def expect_phases(method: str, made: dict[str, Any]) -> None:
    """One entry for each phase since the evaluation was switched on, by the read-outs that existed by then."""
    names = PHASES.get(method, ["main"])
    found = made["results"]["phase_accuracy"] if names else made["results"].get("phase_accuracy", [])
    assert [(entry["task"], entry["phase"]) for entry in found] == [(task, name) for task in (1, 2) for name in names]
    protocols = made["results"]["accuracy_matrix"]
    for entry in found:
        assert list(entry["accuracy"]) == list(entry["accuracy_by_task"]) == list(protocols)
        assert all(list(readouts) == ["linear"] for readouts in entry["accuracy"].values()), "nothing is inferred yet"
        assert all(len(row) == entry["task"] + 1 for of in entry["accuracy_by_task"].values() for row in of.values())
    if method not in ("wa", "rpsnet"):  # nothing behind a task's last phase moves this read-out: alignment, a choice
        last = {entry["task"]: entry["accuracy"] for entry in found}
        for task in last:
            after = made["results"]["tasks"][task]["accuracy"]
            assert last[task] == {protocol: {"linear": of["linear"]} for protocol, of in after.items()}
    rows = [row for row in csv.DictReader(made["texts"][0].splitlines()) if row.get("phase/index")]
    assert [row["phase/index"] for row in rows] == [str(index) for index in range(len(found))]
    for row, entry in zip(rows, found, strict=True):
        value = row[f"phase/{entry['phase']}/accuracy/class_incremental/linear"]
        assert float(value) == entry["accuracy"]["class_incremental"]["linear"]
        assert row["phase/task"] == str(entry["task"])


@pytest.fixture(scope="module")
def one_task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learnt two of three tasks; copy it before changing it."""
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    learn(run_dir, "trainer.stop_after_task=1")
    return run_dir


@pytest.fixture
def unfinished(one_task: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(one_task, tmp_path / "moved"))


@pytest.mark.slow
def test_a_run_that_was_moved_and_lost_its_results_goes_on(unfinished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between checkpoint and results, and found elsewhere; the CSV file lacks the task's line. And begun when
    neither inferred tasks nor classes were counted yet: the former cannot be counted from the middle on.
    """
    last = unfinished / "checkpoints" / "task_001.pt"
    payload = load_checkpoint(last)
    del payload["matrices"]["task_inference"], payload["class_counts"]
    payload["commits"] = ["0123456789ab"]
    save_whole(last, payload)
    (unfinished / "results.json").unlink()
    lines = (unfinished / "metrics.csv").read_text().splitlines(keepends=True)
    (unfinished / "metrics.csv").write_text("".join(lines[:-1]))
    assert resume(monkeypatch, f"resume={unfinished}", "trainer.workers=1", "trainer=cpu") == 0
    results = json.loads((unfinished / "results.json").read_text())
    assert len(results["tasks"]) == 3
    assert list(results["accuracy_matrix"]) == ["class_incremental", "task_incremental"]
    macro = results["macro_accuracy"]["class_incremental"]["linear"]
    assert macro == [None, None, results["last_macro_accuracy"]]
    assert macro[-1] == pytest.approx(results["last_accuracy"], abs=0.05)
    assert results["provenance"]["went_on_after_task"] == 2
    assert results["provenance"]["commit"] == f"0123456789ab, then {commit()}"
    assert results["provenance"]["seconds"] >= sum(task["seconds"] for task in results["provenance"]["tasks"])
    rows = (unfinished / "metrics.csv").read_text().splitlines()
    index = rows[0].split(",").index("task/index")
    assert [row.split(",")[index] for row in rows[1:] if row.split(",")[index]] == ["0", "1", "2"]


@pytest.mark.slow
def test_a_torn_checkpoint_is_reported_and_the_one_before_it_taken(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    last = unfinished / "checkpoints" / "task_001.pt"
    last.write_bytes(last.read_bytes()[:5000])
    assert resume(monkeypatch, f"resume={unfinished}") == 0
    assert "task_001.pt cannot be used (its end is missing)" in capfd.readouterr().err
    assert json.loads((unfinished / "results.json").read_text())["provenance"]["went_on_after_task"] == 1


@pytest.mark.slow
def test_a_finished_run_is_only_shown(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert resume(monkeypatch, f"resume={unfinished}") == 0
    before = outcome(unfinished)
    capfd.readouterr()
    assert resume(monkeypatch, f"resume={unfinished}") == 0
    assert "Accuracy in % after task" in capfd.readouterr().out
    assert outcome(unfinished) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["seed=1"], "seed=1 is not possible beside resume="),
        (["method=wa"], "method=wa is not possible beside resume="),
        (
            ["trainer.precision=bf16-mixed"],
            "trainer.precision=bf16-mixed changes the numbers of the run: type allow=precision",
        ),
        (["trainer=tpu"], "trainer=tpu is not possible"),
        (["trainer.workers=many"], "trainer.workers"),
        (["-m"], "-m does not go with resume="),
        (["resume=other"], "resume= takes one folder"),
        (["trainer.stop_after_task=7"], "trainer.stop_after_task=7 is not among the 3 tasks"),
    ],
)
def test_what_would_make_another_run_of_it_is_refused(
    arguments: list[str],
    told: str,
    one_task: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert resume(monkeypatch, f"resume={one_task}", *arguments) == 2
    error = capfd.readouterr().err
    assert told in error
    assert error.count("\n") == 1


def test_a_folder_without_a_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert resume(monkeypatch, f"resume={tmp_path}") == 2
    assert "is no run, it has no config.yaml" in capfd.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_of_other_data_is_refused(
    unfinished: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    config = (unfinished / "config.yaml").read_text()
    (unfinished / "config.yaml").write_text(config.replace("order: identity", "order: seed:1"))
    assert resume(monkeypatch, f"resume={unfinished}") == 2
    assert "was made with data.order=identity (not seed:1)" in capfd.readouterr().err
