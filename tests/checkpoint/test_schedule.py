"""When the state is kept: after items, every so many steps or minutes, and where the run is left."""

from __future__ import annotations

import signal

import pytest

from cl_lightning.checkpoint import schedule
from cl_lightning.checkpoint.schedule import CheckpointSchedule
from cl_lightning.checkpoint.state import RunState
from cl_lightning.core.types import PhaseCheckpoint
from cl_lightning.distributed.signals import StopFlag, StoppedError
from cl_lightning.memory.rehearsal import Budget, RehearsalMemory


class Keeping:
    """A journal over an empty state, which notes what is kept."""

    def __init__(self, steps: int | None = None, minutes: float | None = None) -> None:
        self.state = RunState(RehearsalMemory(Budget("none", 0), "global", 1))
        self.stop = StopFlag()
        self.kept: list[int] = []
        self.asked = 0
        self.journal = CheckpointSchedule(
            self.state,
            self.save,
            lambda: f"step {self.state.steps}",
            self.stop,
            every_steps=steps,
            every_minutes=minutes,
        )

    def save(self) -> None:
        self.kept.append(self.state.position.steps)

    def step(self, steps: int) -> None:
        def leave() -> PhaseCheckpoint:
            self.asked += 1
            return PhaseCheckpoint(steps, {}, {})

        self.journal.after_step(steps, leave)


def test_every_so_many_steps() -> None:
    keeping = Keeping(steps=3)
    for step in range(1, 11):
        keeping.step(step)
    assert keeping.kept == [3, 6, 9]
    assert keeping.asked == 3, "what is kept is gathered only when it is time: it waits for the device"


def test_every_so_many_minutes_since_something_was_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(schedule.time, "monotonic", lambda: now)
    keeping = Keeping(minutes=1.0)
    for step in range(1, 8):
        now = 25.0 * step
        if step == 5:
            keeping.journal.after_item()
        keeping.step(step)
    assert keeping.kept == [3, 3], "the third step at 75 s, the item at 125 s, and nothing until 185 s"


def test_who_asks_is_let_go_after_the_step_with_what_is_needed_to_go_on() -> None:
    keeping = Keeping(steps=100)
    keeping.step(1)
    keeping.stop.by = signal.SIGTERM
    with pytest.raises(StoppedError, match="step 2"):
        keeping.step(2)
    assert keeping.kept == [2]
    assert keeping.state.cursor.left == PhaseCheckpoint(2, {}, {})


def test_an_item_is_kept_before_the_run_is_left_and_unfinished_ones_are_not() -> None:
    keeping = Keeping()
    keeping.journal.raise_if_stopped()
    keeping.journal.after_item()
    keeping.stop.by = signal.SIGINT
    with pytest.raises(StoppedError):
        keeping.journal.raise_if_stopped()
    assert keeping.kept == [0]
    with pytest.raises(StoppedError):
        keeping.journal.after_item()
    assert keeping.kept == [0, 0]
