"""From the configuration to what trains: device, compilation, loggers, and where the curves are gone on with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_lightning.checkpoint.schedule import CheckpointSchedule, NoCheckpoints
from cl_lightning.checkpoint.state import Cursor, RunState
from cl_lightning.core.errors import UserError
from cl_lightning.core.records import TaskRecord
from cl_lightning.distributed.process_group import SINGLE_PROCESS
from cl_lightning.learning.loggers import Curves, LoggerOptions, ResumePoint
from cl_lightning.memory.rehearsal import Budget, RehearsalMemory
from cl_lightning.run import build_engine as builder
from cl_lightning.run.build_engine import build_checkpoint_schedule, build_curves, on_gpu
from tests.config.made import filled

MEMORY = RehearsalMemory(Budget("none", 0), "global", 1)


def state(tasks: int = 0, *, items: int = 0, offset: int = 0) -> RunState:
    records = [TaskRecord(index, (index,), (str(index),), 1.0, 1.0, 1) for index in range(tasks)]
    made = RunState(MEMORY, step_offset=offset, cursor=Cursor(items=items))
    made.records.extend(records)
    return made


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What loggers are asked for."""
    calls: list[dict[str, Any]] = []

    def make(options: LoggerOptions, run_dir: Path, there: Any = None, *, inherited: Any = None) -> Curves:
        calls.append({"options": options, "resumed": there, "inherited": inherited})
        return Curves()

    monkeypatch.setattr(builder, "make_curves", make)
    return calls


@pytest.mark.parametrize(("accelerator", "there", "expected"), [
    ("cpu", True, False), ("gpu", True, True), ("auto", True, True), ("auto", False, False),
])  # fmt: skip
def test_which_device_a_run_is_on(
    accelerator: str, there: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert on_gpu(filled(f"trainer.accelerator={accelerator}").trainer) is expected


@pytest.mark.parametrize(("typed", "gpu", "expected"), [
    ("auto", True, True), ("auto", False, False), ("trunk", False, True), ("none", True, False),
])  # fmt: skip
def test_trunks_are_compiled_on_a_gpu_or_where_that_is_typed(
    typed: str, gpu: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert builder.compiles_trunks(filled(f"trainer.compile={typed}").trainer) is expected


def test_a_run_is_named_by_method_data_and_seed_unless_it_has_a_name(
    asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    build_curves(filled("method=wa", "seed=3", "logger=wandb"), tmp_path, state(), False, begun=False)
    typed = filled("logger=wandb", "logger.name=mine", "logger.group=ours", "verbose=0")
    build_curves(typed, tmp_path, state(), False, begun=False)
    first, second = (each["options"] for each in asked)
    assert (first.name, first.group, first.wandb, first.quiet) == ("wa_digits_seed3", "wa_digits", True, False)
    assert (second.name, second.group, second.quiet) == ("mine", "ours", True)


@pytest.mark.parametrize(
    ("made", "tasks"),
    [
        (state(0), 0),
        (state(2), 1),  # the point of a task that has ended may not have been written
        (state(2, items=1), 2),
        (state(1), 0),
    ],
    ids=["new", "at a task's end", "within a task", "after the first"],
)
def test_points_behind_the_state_are_taken_back(
    made: RunState, tasks: int, asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    build_curves(filled(), tmp_path, made, True, begun=True)
    assert asked[0]["resumed"] == ResumePoint(made.steps, tasks, 0)
    assert asked[0]["inherited"] is None
    build_curves(filled(), tmp_path, made, False, begun=True)
    assert asked[1]["inherited"] == asked[0]["resumed"]


@pytest.mark.parametrize("begun", [True, False])
def test_steps_go_on_where_the_state_stands_once_it_learns(
    begun: bool, asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    curves = build_curves(filled(), tmp_path, state(1, offset=40), True, begun=begun)
    assert curves.offset == (40 if begun else 0)


def test_only_the_process_that_writes_keeps_checkpoints() -> None:
    def journal(main: bool) -> object:
        processes: Any = SINGLE_PROCESS if main else replace(SINGLE_PROCESS, rank=1, world_size=2)
        unused: Any = None
        return build_checkpoint_schedule(filled(), unused, state(), Curves(), unused, processes)

    assert isinstance(journal(True), CheckpointSchedule)
    assert isinstance(journal(False), NoCheckpoints)


def test_curves_are_on_the_disk_before_a_checkpoint_knows_of_them() -> None:
    order: list[str] = []

    class Noted(Curves):
        def sync(self) -> None:
            order.append("curves")

    class Directory:
        def save_checkpoint(self, state: RunState) -> None:
            order.append("checkpoint")

    not_stopped: Any = False
    directory: Any = Directory()
    build_checkpoint_schedule(filled(), directory, state(), Noted(), not_stopped, SINGLE_PROCESS).after_item()
    assert order == ["curves", "checkpoint"]


def test_a_logger_that_is_not_installed_is_told_with_the_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cl_lightning.core.errors import InvalidSettingError

    def refuse(*_: Any, **__: Any) -> Curves:
        raise InvalidSettingError("wandb", True, "needs a package", False)

    monkeypatch.setattr(builder, "make_curves", refuse)
    with pytest.raises(UserError, match=r"logger.wandb=true needs a package: type logger.wandb=false"):
        build_curves(filled(), tmp_path, state(), False, begun=False)
