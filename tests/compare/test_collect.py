"""What counts as a run, and that nothing is passed over without a line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cl_lightning.compare.collect import collect
from cl_lightning.core.errors import UserError
from tests.compare.made import write_run


def test_runs_of_any_depth_and_single_files_are_found_once_each(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "a", 5), write_run(tmp_path / "multirun" / "today" / "0", 6)
    write_run(tmp_path / "a" / ".hidden", 7)
    content = json.loads((one / "results.json").read_text())
    (tmp_path / "stored.json").write_text(json.dumps({**content, "config": {"model.dim": 64}}))
    found, notes = collect([tmp_path, two, tmp_path / "stored.json"])
    assert [run.name for run in found] == [str(one), str(two), str(tmp_path / "stored.json")]
    before = {"early_stopping.monitor": "accuracy", "early_stopping.patience": None, "early_stopping.min_delta": 0.0}
    assert found[2].config == {"model.dim": 64, "extends": None, **before}, "as before there was learn="
    assert [run.test_images for run in found] == [30, 30, None]
    assert notes == [f"{two}/results.json was found twice: it counts once"]


def test_what_is_no_result_is_named_and_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "good", 5)
    for name, text in {"cut": '{"protocol": ', "list": "[1, 2]", "other": '{"protocol": {"method": "x"}}'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(text)
    content = json.loads((write_run(tmp_path / "nan", 5) / "results.json").read_text())
    content["tasks"][0]["accuracy"]["class_incremental"]["linear"] = float("nan")
    (tmp_path / "nan" / "results.json").write_text(json.dumps(content))
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.yaml").write_text("seed: 0")
    found, notes = collect([tmp_path])
    assert [run.name for run in found] == [str(tmp_path / "good")]
    assert notes == [
        f"{tmp_path}/begun is left out: it has no results.json yet",
        f"{tmp_path}/cut/results.json is left out: it is no JSON, perhaps cut off",
        f"{tmp_path}/list/results.json is left out: it has another format (not the keys of a run's results)",
        f"{tmp_path}/nan/results.json is left out: it has another format (an accuracy that is no number from 0 to 1)",
        f"{tmp_path}/other/results.json is left out: it has another format (no tasks)",
    ]
    with pytest.raises(UserError, match=r"no results are left to compare; .*cut/results.json is left out"):
        collect([tmp_path / "cut"])


def test_places_that_hold_nothing_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty holds no results.json: type"):
        collect([tmp_path / "a", tmp_path / "empty"])
    with pytest.raises(UserError, match="missing does not exist: type"):
        collect([tmp_path / "missing"])
    with pytest.raises(UserError, match="--leave-out .*empty holds none of the runs"):
        collect([tmp_path / "a"], [tmp_path / "empty"])


def test_a_configuration_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path) -> None:
    write_run(tmp_path / "a", 5)
    (write_run(tmp_path / "b", 5) / "config.yaml").write_text("a: [1")
    found, notes = collect([tmp_path])
    assert len(found) == 1
    assert notes == [f"{tmp_path}/b/results.json is left out: config.yaml beside it cannot be read"]
