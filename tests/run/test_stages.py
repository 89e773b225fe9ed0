"""A run that is closed: those that looked on are told how it has ended, however that was."""

from __future__ import annotations

from typing import Any

import pytest

from cl_lightning.checkpoint.files import Position
from cl_lightning.distributed.signals import StoppedError
from cl_lightning.run import stages
from cl_lightning.run.stages import StartedRun, closed


class Noted:
    """Display and curves that note how they are closed."""

    def __init__(self) -> None:
        self.closed: list[Any] = []

    def close(self, *status: Any) -> None:
        self.closed.append(status)


def started() -> tuple[StartedRun, list[Any], list[Any]]:
    display, curves, nothing = Noted(), Noted(), None
    run: Any = StartedRun(nothing, Position(), display, curves)  # type: ignore[arg-type]
    return run, display.closed, curves.closed


@pytest.mark.parametrize(
    ("error", "status"),
    [(StoppedError("here"), "stopped"), (KeyboardInterrupt(), "stopped"), (ZeroDivisionError(), "failed")],
    ids=["stopped", "ctrl-c", "a bug"],
)
def test_an_error_passes_and_is_told(error: BaseException, status: str) -> None:
    run, display, curves = started()
    with pytest.raises(type(error)), closed(run):
        raise error
    assert (display, curves) == ([()], [(status,)])


def test_an_end_is_a_success() -> None:
    run, display, curves = started()
    with closed(run):
        pass
    assert (display, curves) == ([()], [("success",)])


@pytest.mark.parametrize(("wanted", "idle", "lines"), [(2, 0, 0), (8, 6, 1), (0, 0, 0)])
def test_more_workers_than_cores_are_remarked_on(
    wanted: int, idle: int, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "idle_workers", lambda count: idle)
    found = stages.idle_worker_lines(wanted)
    assert len(found) == lines
    if found:
        assert found == ["trainer.workers=8 on 2 cores slows loading down: type trainer.workers=2"]
