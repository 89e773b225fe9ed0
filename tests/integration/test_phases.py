"""Accuracy after each phase: once for each, whatever happens, and beside the training, not in it.

That nothing moves by it is in ``test_resume.py``, for each method.
"""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from cl_lightning.checkpoint.files import list_checkpoints, load_checkpoint, save_whole
from cl_lightning.metrics.accuracy import accuracies_of_each, accuracy_of_all
from cl_lightning.run import task_loop
from tests.integration.commands import outcome, typed

pytestmark = pytest.mark.slow
TWO_TASKS = [
    "epochs_scale=0.002", "balanced_epochs_scale=0.1", "data.classes=4", "data.increment=2", "memory.size=80",
    "batch.evaluation=64", "trainer.progress=lines",
]  # fmt: skip


def learn(run_dir: Path, *overrides: str) -> int:
    return typed(*TWO_TASKS, f"run_dir={run_dir}", f"hydra.run.dir={run_dir}", *overrides)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    assert learn(run_dir, "evaluate_phases=true") == 0
    return run_dir


def test_an_evaluation_that_is_interrupted_is_made_once_and_nothing_is_trained_again(
    evaluated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir, evaluate = tmp_path / "run", task_loop.evaluate_ready

    def evaluate_and_stop(method: Any, images: Any, offsets: list[int], watch: Any) -> Any:
        if len(offsets) == 3:  # the second task's first phase
            signal.raise_signal(signal.SIGINT)
        return evaluate(method, images, offsets, watch)

    with monkeypatch.context() as patched:
        patched.setattr(task_loop, "evaluate_ready", evaluate_and_stop)
        assert learn(run_dir, "evaluate_phases=true") == 75
    assert "stopped at task 2/2, herd; type resume=" in capfd.readouterr().err
    left = list_checkpoints(run_dir / "checkpoints")[-1]
    assert left.name == "task_001_item_02.pt", "the phase has been kept"
    payload = load_checkpoint(left)
    assert [(entry["task"], entry["phase"]) for entry in payload["after_phases"]] == [(0, "main")]
    assert typed(f"resume={run_dir}") == 0
    told = capfd.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in told if line.startswith("after")] == [
        "after phase main of task 2/2", "after phase finetuning of task 2/2", "after task 2/2"
    ]  # fmt: skip
    assert outcome(run_dir) == outcome(evaluated)
    provenance = json.loads((run_dir / "results.json").read_text())["provenance"]
    assert provenance["went_on_at_step"] == payload["step_offset"]


def test_files_say_the_same_and_evaluating_is_no_training(evaluated: Path) -> None:
    results = json.loads((evaluated / "results.json").read_text())
    found, provenance = results["phase_accuracy"], results["provenance"]
    assert [(entry["task"], entry["phase"]) for entry in found] == [(0, "main"), (1, "main"), (1, "finetuning")]
    assert found[-1]["accuracy"] == results["tasks"][-1]["accuracy"], "nothing lies between"
    with (evaluated / "accuracy_after_phases.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for entry in found:
        for protocol, readouts in entry["accuracy"].items():
            own = [row for row in rows if (row["protocol"], row["task"], row["phase"])
                   == (protocol, str(entry["task"]), entry["phase"])]  # fmt: skip
            cells = [(int(row["hits"]), 0, int(row["total"])) for row in own]
            assert accuracy_of_all(cells) == readouts["linear"]
            assert accuracies_of_each(cells) == entry["accuracy_by_task"][protocol]["linear"]
    assert len(rows) == 3 * (1 + 2 + 2), "protocols, tasks seen"
    for task in provenance["tasks"]:
        own = [phase for phase in provenance["phases"] if phase["task"] == task["index"]]
        rate = sum(phase["images"] for phase in own) / sum(phase["seconds"] for phase in own)
        assert task["images_per_second"] == pytest.approx(rate)


def test_a_run_of_before_there_was_such_a_thing_goes_on_without(
    evaluated: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither its configuration nor its state has the key."""
    run_dir = tmp_path / "run"
    (run_dir / "checkpoints").mkdir(parents=True)
    saved = (evaluated / "config.yaml").read_text()
    (run_dir / "config.yaml").write_text(saved.replace("evaluate_phases: true\n", ""))
    assert (run_dir / "config.yaml").read_text() != saved
    last = list_checkpoints(evaluated / "checkpoints")[0]
    payload = load_checkpoint(last)
    del payload["after_phases"]
    save_whole(run_dir / "checkpoints" / last.name, payload)
    assert typed(f"resume={run_dir}") == 0
    assert "after phase" not in capfd.readouterr().err
    results = json.loads((run_dir / "results.json").read_text())
    assert "phase_accuracy" not in results
    whole = json.loads((evaluated / "results.json").read_text())
    assert results["accuracy_matrix"] == whole["accuracy_matrix"]
    assert not (run_dir / "accuracy_after_phases.csv").exists()
