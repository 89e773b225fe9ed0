"""Callbacks of a phase: what is shown and drawn of each step, and after which steps it may be left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pytorch_lightning.callbacks import Callback

from cl_lightning.checkpoint.schedule import NoCheckpoints
from cl_lightning.core.types import PhaseCheckpoint
from cl_lightning.learning.engine import Observers
from cl_lightning.learning.trainer import quieten_lightning
from tests.learning.a_phase import PHASE, TASKS, Bench, toy


class Asking(NoCheckpoints):
    """A schedule that notes what it is offered, and takes one of the steps."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted
        self.offered: list[int] = []
        self.taken: PhaseCheckpoint | None = None

    def after_step(self, steps: int, leave: Callable[[], PhaseCheckpoint]) -> None:
        self.offered.append(steps)
        if steps == self.wanted:
            self.taken = leave()


def watched(bench: Bench, leaving: Asking, *callbacks: Callback) -> Bench:
    own = bench.engine.observers
    bench.engine.observers = Observers(own.display, own.curves, leaving, callbacks)
    return bench


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Asking, int]:
    """Three epochs of six steps of four images."""
    quieten_lightning()
    leaving = Asking(7)
    bench = watched(Bench(tmp_path_factory.mktemp("phase")), leaving)
    method = toy(2)
    fitted, _ = bench.fit(method, TASKS[0], PHASE)
    return bench, leaving, fitted.steps


def test_every_step_but_the_last_is_offered(fitted: tuple[Bench, Asking, int]) -> None:
    _, leaving, steps = fitted
    assert steps == 18
    assert leaving.offered == list(range(1, 18))


def test_what_is_taken_knows_its_step(fitted: tuple[Bench, Asking, int]) -> None:
    taken = fitted[1].taken
    assert taken is not None
    assert taken.steps == 7


def test_a_point_of_the_curves_has_each_loss_their_sum_the_rate_and_the_place(
    fitted: tuple[Bench, Asking, int],
) -> None:
    points = fitted[0].curves.points
    assert [point["step"] for point in points] == list(range(1, 19))
    assert [point["epoch"] for point in points] == [0] * 6 + [1] * 6 + [2] * 6
    for point in points:
        assert set(point) == {"loss/classification", "loss/total", "lr", "task", "epoch", "step"}
        assert point["loss/total"] == point["loss/classification"] > 0
        assert (point["lr"], point["task"]) == (0.1, 0)


def test_what_a_schedule_raises_ends_the_phase_there(tmp_path: Path) -> None:
    class Stopping(Asking):
        def after_step(self, steps: int, leave: Callable[[], PhaseCheckpoint]) -> None:
            super().after_step(steps, leave)
            if steps == 3:
                raise RuntimeError("left")

    quieten_lightning()
    leaving = Stopping(3)
    with pytest.raises(RuntimeError, match="left"):
        watched(Bench(tmp_path), leaving).fit(toy(2), TASKS[0], PHASE)
    assert leaving.offered == [1, 2, 3]
