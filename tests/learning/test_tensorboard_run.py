"""Curves in TensorBoard: on the axes of the other loggers, and every point once however the run was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from cl_lightning.core.errors import InvalidSettingError
from cl_lightning.learning import tensorboard_run as module
from cl_lightning.learning.loggers import LoggerOptions, ResumePoint, make_curves

BOTH = LoggerOptions(
    csv=True, wandb=False, project="p", entity=None, mode="offline", name="n", group="g", tensorboard=True
)
Scalar = tuple[str, int, float]


class Noted:
    """A logger of Lightning's that notes what it is given, in a file as TensorBoard's would be."""

    made: ClassVar[list[Noted]] = []

    def __init__(self, save_dir: Path, name: str, version: str, default_hp_metric: bool) -> None:
        self.folder = save_dir / name / version
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"events.out.tfevents.{len(self.made)}").touch()
        self.scalars: list[Scalar] = []
        self.configuration: dict[str, Any] = {}
        self.flushed, self.ended = 0, ""
        self.made.append(self)

    @property
    def experiment(self) -> Noted:
        return self

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.scalars += [(name, step, value) for name, value in metrics.items()]

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        self.configuration = params

    def flush(self) -> None:
        self.flushed += 1

    def finalize(self, status: str) -> None:
        self.ended = status


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> list[Noted]:
    monkeypatch.setattr(Noted, "made", [])
    monkeypatch.setattr(module, "TensorBoardLogger", Noted)
    monkeypatch.setattr(module, "find_spec", lambda name: name)
    return Noted.made


def learn(folder: Path, resume: ResumePoint | None, tasks: range, options: LoggerOptions = BOTH) -> None:
    """Two points, an evaluation after the phase and the task's end, in each of ``tasks``."""
    curves = make_curves(options, folder, resume)
    curves.log_configuration({"seed": 3})
    for task in tasks:
        curves.offset = 10 * task
        curves.log({"loss/total": 0.5 + task, "lr": 0.1}, 5)
        curves.log({"loss/total": 0.25 + task, "lr": 0.1}, 10)
        curves.offset = 10 * task + 10
        curves.log_phase(task, task, "main", {"accuracy": 0.75})
        curves.log_task(task, {"accuracy": 0.5})
        curves.sync()
    curves.close("success")


OF_TWO_TASKS = [
    ("loss/total", 5, 0.5), ("lr", 5, 0.1), ("loss/total", 10, 0.25), ("lr", 10, 0.1),
    ("phase/main/accuracy", 0, 0.75), ("task/accuracy", 0, 0.5),
    ("loss/total", 15, 1.5), ("lr", 15, 0.1), ("loss/total", 20, 1.25), ("lr", 20, 0.1),
    ("phase/main/accuracy", 1, 0.75), ("task/accuracy", 1, 0.5),
]  # fmt: skip


def test_curves_over_steps_and_curves_over_tasks(noted: list[Noted], tmp_path: Path) -> None:
    learn(tmp_path, None, range(2))
    (made,) = noted
    assert made.scalars == OF_TWO_TASKS
    assert made.folder == tmp_path / "tensorboard"
    assert made.configuration == {"seed": 3}
    assert made.flushed > 0
    assert made.ended == "success"


def test_a_resumed_run_has_every_point_once(noted: list[Noted], tmp_path: Path) -> None:
    """Points logged after the checkpoint are made again, not added to."""
    learn(tmp_path, None, range(2))
    learn(tmp_path, ResumePoint(10, 1, 1), range(1, 2))
    assert noted[1].scalars[:6] == OF_TWO_TASKS[:6]
    assert sorted(noted[1].scalars) == sorted(OF_TWO_TASKS)
    assert [path.name for path in (tmp_path / "tensorboard").iterdir()] == ["events.out.tfevents.1"]


def test_it_may_be_switched_on_when_a_run_is_resumed(noted: list[Noted], tmp_path: Path) -> None:
    csv = LoggerOptions(csv=True, wandb=False, project="p", entity=None, mode="offline", name="n", group="g")
    learn(tmp_path, None, range(1), csv)
    assert noted == []
    learn(tmp_path, ResumePoint(10, 1, 1), range(1, 2))
    assert sorted(noted[0].scalars) == sorted(OF_TWO_TASKS)


def test_without_the_csv_file_there_is_nothing_to_make_them_from(noted: list[Noted], tmp_path: Path) -> None:
    alone = LoggerOptions(
        csv=False, wandb=False, project="p", entity=None, mode="offline", name="n", group="g", tensorboard=True
    )
    with pytest.raises(InvalidSettingError, match="csv=False leaves out the file from which TensorBoard's are made"):
        make_curves(alone, tmp_path)
    assert noted == []


def test_a_package_that_is_missing_is_named_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(InvalidSettingError, match=r'is not installed: run pip install "cl-lightning\[tensorboard\]"'):
        make_curves(BOTH, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_files_are_what_tensorboard_reads(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    learn(tmp_path, None, range(2))
    learn(tmp_path, ResumePoint(10, 1, 1), range(1, 2))
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = [(tag, each.step, each.value) for tag in found.Tags()["scalars"] for each in found.Scalars(tag)]
    assert sorted(scalars) == [(tag, step, pytest.approx(value)) for tag, step, value in sorted(OF_TWO_TASKS)]
