"""A run that goes on says which points of its curves are gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from cl_lightning.learning.loggers import LoggerOptions, ResumePoint, make_curves

OPTIONS = LoggerOptions(csv=True, wandb=False, project="", entity=None, mode="online", name="", group="")
HEAD = "loss,step,task/index,task/x\r\n"
STEPS = [f"0.5,{step},,\r\n" for step in range(20, 101, 20)]
TASKS = [f",{step},{task},0.9\r\n" for task, step in enumerate((40, 80))]
WHOLE = HEAD + "".join([*STEPS[:2], TASKS[0], *STEPS[2:4], TASKS[1], STEPS[4]])


def told(text: str, folder: Path, caplog: pytest.LogCaptureFixture, kept: ResumePoint) -> str:
    (folder / "metrics.csv").write_bytes(text.encode())
    make_curves(OPTIONS, folder, kept)
    return caplog.text


@pytest.mark.parametrize("steps", [100, 105, 119, 80])
def test_nothing_is_reported_of_a_whole_file(steps: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert told(WHOLE, tmp_path, caplog, ResumePoint(steps, 2)) == ""
    if steps > 99:
        assert (tmp_path / "metrics.csv").read_bytes() == WHOLE.encode()


def test_nor_of_points_that_were_never_to_be_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert told(f"{WHOLE}0.5,120,,\r\n0.", tmp_path, caplog, ResumePoint(100, 2)) == ""


def test_nor_of_a_run_that_was_logged_from_its_second_task_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = HEAD + "".join([*STEPS[2:4], TASKS[1], STEPS[4]])
    assert told(text, tmp_path, caplog, ResumePoint(100, 2)) == ""
    (tmp_path / "metrics.csv").unlink()
    make_curves(OPTIONS, tmp_path, ResumePoint(100, 2))
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (WHOLE[: WHOLE.index("0.5,60")], "those of 1 of 2 tasks are missing, there is none of steps 41 to 100"),
        (WHOLE[:45], "1 of its lines are damaged, there is none of steps 21 to 100"),
        (WHOLE.replace(TASKS[1], "\0" * 8 + "\r\n"), "1 of its lines are damaged, those of 1 of 2 tasks are missing"),
        ("\0" * 300, "1 of its lines are damaged, there is none of steps 1 to 100"),
        (WHOLE.replace("loss", "lo\0s"), "8 of its lines are damaged, there is none of steps 1 to 100"),
    ],
)
def test_what_is_gone_is_reported(text: str, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    line = told(text, tmp_path, caplog, ResumePoint(100, 2))
    assert f"metrics.csv has lost points of the curves: {words}" in line
