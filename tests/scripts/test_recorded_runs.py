"""The published runs in tests/golden, replayed; and what a replay of ours that differs is seen by."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from cl_lightning.core.errors import InvalidFileError, UserError
from scripts.check_reference import main
from scripts.reference.comparison import RunComparison, compare_tasks, first_difference
from scripts.reference.controls import CONTROLS, Control, first_place
from scripts.reference.difference import Verdict
from scripts.reference.recorded import RecordedRun
from scripts.reference.replay import replay
from scripts.reference.vectors import VectorFile
from tests.golden import GOLDEN

ROOT = Path(__file__).parents[2]
FIRST_TASKS = {"dytox": 2, "dytox_two_processes": 2, "dytox_plus": 1, "dytox_plusplus": 2}
WHOLE = {"dytox": 73, "dytox_two_processes": 58, "dytox_plus": 58, "dytox_plusplus": 85}
"""Lines of the comparison: an entry each, or a term of a loss, or a row of the matrix."""
QUICK = ("recipe.repeated_augmentation=false", "recipe.mixup_softmax=true", "recipe.schedule_lag=false")
"""Changes that are seen within two epochs."""


def recorded(name: str) -> RecordedRun:
    return RecordedRun(VectorFile(GOLDEN / f"{name}.npz"))


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        pytest.param(name, tasks, marks=pytest.mark.long if name == "dytox_plusplus" else pytest.mark.slow)
        for name, tasks in FIRST_TASKS.items()
    ],
)
def test_the_first_tasks_of_a_published_run_are_ours(name: str, tasks: int) -> None:
    compared = compare_tasks(recorded(name), tasks=tasks)
    assert [
        f"{row.entry}: {row.note or row.absolute}" for row in compared.rows if row.verdict is not Verdict.EQUAL
    ] == []
    left_out = {row.entry for row in compared.unchecked()}
    assert {entry for entry in left_out if int(re.sub(r"^task(\d+)/.*|.*", r"\1", entry) or 99) < tasks} == set()
    assert len(compared.accuracies) == tasks


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("name", "lines"), WHOLE.items())
def test_a_published_run_is_ours_from_the_first_step_to_the_last(
    name: str, lines: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    status = main([str(GOLDEN / f"{name}.npz"), "--json", str(report)])
    out, err = capsys.readouterr()
    assert status == 0, out
    assert out.splitlines()[-1] == f"PASS: {lines} equal"
    assert out.splitlines()[0].endswith(f": recorded run of the published DyTox: {name}, {recorded(name).tasks} tasks")
    assert err == f"replaying {name}, {recorded(name).tasks} tasks ...\n"
    assert json.loads(report.read_text())["passed"] is True


def named(control: Control) -> str:
    return f"{control.run}: {control.change}"


@pytest.mark.parametrize(
    "control",
    [pytest.param(c, marks=pytest.mark.slow if c.change in QUICK else pytest.mark.long) for c in CONTROLS],
    ids=named,
)
def test_a_change_of_ours_is_seen_where_the_table_says(control: Control) -> None:
    place = first_place(recorded(control.run), control)
    assert place.startswith(control.entry), place
    assert bool(place) == bool(control.entry), place


def test_the_table_of_changes_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "REPRODUCIBILITY.md").read_text(encoding="utf-8")
    for control in CONTROLS:
        change = f"`{control.change}`" if control.words else control.change
        assert f"| `{control.run}` | {change} | {control.entry or 'nowhere, rightly'}" in page


# ---- wrong files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"task0/start/pos_embed": None}, "task0/start/pos_embed is new in our network and not in the file"),
        ({"task0/start/tail": np.zeros(1)}, "task0/start/tail is in the file and not new in our network"),
        (
            {"task0/start/head.0.head.bias": np.zeros(3, np.float32)},
            r"head.0.head.bias is of shape \(3,\) in the file, \(2,\) here",
        ),
        ({"settings.json": ("digits_sha256", "0")}, "was made on other digits"),
        ({"settings.json": ("ours", ["recipe.nothing=1", "run=1"])}, "does not take the words of the file"),
    ],
)
def test_what_does_not_fit_our_network_or_data_is_reported(
    change: dict[str, object], told: str, tmp_path: Path
) -> None:
    run = changed(tmp_path / "run.npz", change)
    with pytest.raises((UserError, InvalidFileError), match=told):
        replay(run, RunComparison(run), tasks=1)


def test_wrong_words_end_the_script_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed(tmp_path / "run.npz", {"settings.json": ("ours", ["nothing=1"])})
    assert main([str(tmp_path / "run.npz")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "does not take the words of the file" in err.splitlines()[-1]


@pytest.mark.slow
def test_other_weights_are_another_run_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one short task: the sizes of a file are its own, and so is how long it takes."""
    words = [word for word in recorded("dytox").words if not word.startswith("method.main")]
    words += ["method.main.epochs=1", "method.main.warmup_epochs=0"]
    settings = json.loads(recorded("dytox").file.texts("settings.json")[0]) | {"tasks": 1, "ours": words}
    bias = recorded("dytox").file["task0/start/decoder.norm1.bias"].numpy()
    run = changed(
        tmp_path / "run.npz",
        {"settings.json": np.array(json.dumps(settings)), "task0/start/decoder.norm1.bias": bias + np.float32(0.01)},
    )
    assert main([str(run.file.path), "--summary"]) == 1
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if line.startswith("task0/main/losses[classification]"))
    assert "DIFFERS  (first at step 0" in row
    assert lines[-1].startswith("FAIL: ")
    found = first_difference(run)
    assert found is not None
    assert found.entry in ("task0/main/lr", "task0/main/losses[classification]")


def test_a_run_leaves_threads_as_they_were(tmp_path: Path) -> None:
    torch.set_num_threads(2)
    try:
        run = changed(tmp_path / "run.npz", {"task0/start/tail": np.zeros(1)})
        with pytest.raises(ValueError, match="tail"):
            replay(run, RunComparison(run), tasks=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def changed(path: Path, entries: dict[str, object]) -> RecordedRun:
    """A copy of the published run with other entries; ``None`` leaves one out, a pair is a setting."""
    with np.load(GOLDEN / "dytox.npz") as archive:
        kept = {name: archive[name] for name in archive.files}
    for name, value in entries.items():
        if isinstance(value, tuple):
            settings = json.loads(str(kept[name]))
            kept[name] = np.array(json.dumps(settings | {value[0]: value[1]}))
        elif value is None:
            del kept[name]
        else:
            kept[name] = np.asarray(value)
    np.savez(path, **kept)
    return RecordedRun(VectorFile(path))
