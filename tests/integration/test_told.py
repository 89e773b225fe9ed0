"""What a run tells: its page, its dashboard, and as much on the terminal as it was asked for."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from cl_lightning.report.data import read_report_data
from tests.integration.commands import SHORT, typed
from tests.learning.test_loggers import offline_files, read_offline

pytestmark = pytest.mark.slow


def point_of(record: Any) -> dict[str, Any]:
    point: dict[str, Any] = {}
    for item in record.history.item:
        name, *within = item.nested_key or [item.key]
        value = json.loads(item.value_json)
        point[name] = {**point.get(name, {}), within[0]: value} if within else value
    return point


def test_page_and_dashboard_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The dashboard's files are read back: numbers on the axis of tasks, tables, pictures, exemplars, its group."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    run_dir = tmp_path / "run"
    shows = ["report.page=true", "report.attention=true", "report.exemplars=3"]
    wandb = ["logger=wandb", "logger.mode=offline", "memory.size=40", "evaluate_phases=true"]
    assert typed(*SHORT, *shows, *wandb, f"run_dir={run_dir}", f"hydra.run.dir={run_dir}") == 0

    page = (run_dir / "report.html").read_text(encoding="utf-8")
    for section in (
        "accuracy",
        "phases",
        "confusion",
        "calibration",
        "losses",
        "tokens",
        "attention",
        "speed",
        "costs",
        "memory",
    ):
        assert f'<section id="{section}"' in page
    report_data, results = read_report_data(run_dir), json.loads((run_dir / "results.json").read_text())
    assert report_data.confusion is not None
    right = report_data.confusion.diagonal().sum() / report_data.confusion.sum()
    assert right == pytest.approx(results["last_accuracy"]), "the answers are those that were counted"
    *before, last = results["costs"]["multiply_adds_by_task"]
    assert 0 < before[0] < before[1] < last == results["costs"]["multiply_adds"], "each task adds a token and a head"
    kept = sum(file.stat().st_size for file in (run_dir / "checkpoints").iterdir())
    assert results["provenance"]["disk"] == {"checkpoints": kept, "exemplars": 40 * 8 * 8}
    assert results["provenance"]["peak_memory"] > kept
    assert report_data.reliability is not None
    assert report_data.reliability[..., 0].sum() == report_data.confusion.sum()
    assert report_data.attention is not None
    assert report_data.attention.shape == (3, 3, 4, 4)
    assert 0 < report_data.attention.sum(axis=(2, 3)).max() <= 1
    assert set(report_data.exemplar_counts.values()) == {4}
    assert {len(images) for images in report_data.exemplars.values()} == {3}
    phases = results["provenance"]["phases"]
    assert [phase["phase"] for phase in phases] == ["main", "main", "finetuning", "main", "finetuning"]
    assert all(phase["seconds"] > 0 and phase["images"] > 0 for phase in phases)

    (file,) = offline_files(run_dir)
    records = list(read_offline(file))
    points = [point_of(record) for record in records if record.WhichOneof("record_type") == "history"]
    of_tasks = [point for point in points if "task/index" in point]
    assert [point["task/index"] for point in of_tasks] == [0, 1, 2]
    assert of_tasks[-1]["task/accuracy"] == pytest.approx(results["last_accuracy"])
    last = of_tasks[-1]
    assert last["tables/accuracy"]["_type"] == "table-file"
    of_phases = [point for point in points if "phase/index" in point]
    assert [(p["phase/index"], p["phase/task"]) for p in of_phases] == [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2)]
    (tuned,) = (entry["accuracy"] for entry in results["phase_accuracy"][-1:])
    name = "phase/finetuning/accuracy/class_incremental/linear"
    assert of_phases[-1][name] == pytest.approx(tuned["class_incremental"]["linear"])
    assert [name in point for point in of_phases] == [False, False, True, False, True]
    assert last["tables/accuracy_after_phases"]["_type"] == "table-file"
    for name in ("accuracy_matrix", "accuracy_after_phases", "tasks", "confusion_of_tasks", "calibration"):
        assert last[f"report/{name}"]["_type"] == "image-file"
        assert (file.parent / "files" / last[f"report/{name}"]["path"]).is_file()
    assert last["memory/exemplars"]["count"] == 10
    assert last["memory/exemplars"]["captions"] == list("0123456789")
    table = json.loads((file.parent / "files" / last["tables/accuracy"]["path"]).read_text())
    assert [row[:2] for row in table["data"]] == [[1, 1], [2, 1], [2, 2], [3, 1], [3, 2], [3, 3]]
    (begun,) = [record.run for record in records if record.WhichOneof("record_type") == "run"][:1]
    assert (
        begun.run_group
        == "dytox_digits balanced_epochs_scale=0.1 data.increment=[4,3,3] epochs_scale=0.004 memory.size=40"
    )


def test_quiet_and_loud(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("cl_lightning").level
    for flag, folder in (("-q", "quiet"), ("-v", "loud")):
        run_dir = tmp_path / folder
        only_one = ["data.increment=10", "method=finetune", "epochs_scale=0.001"]
        assert typed(flag, *only_one, f"run_dir={run_dir}", f"hydra.run.dir={run_dir}", "trainer.progress=lines") == 0
        told = capfd.readouterr()
        assert "of all classes seen so far" in (run_dir / "run.log").read_text()
        if flag == "-q":
            assert told.out == told.err == ""
        else:
            assert "Accuracy in %" in told.out
            assert "debug: task 1: phase main took" in told.err
            assert told.err.count("of all classes seen so far") == 1, "what is told anyway is told once"
    assert logging.getLogger("cl_lightning").level == level
