"""Schedule of checkpoints: when the state of a run is saved, and where the run may be stopped."""

from __future__ import annotations

import time
from collections.abc import Callable

from cl_lightning.checkpoint.state import RunState
from cl_lightning.core.types import PhaseCheckpoint
from cl_lightning.distributed.signals import StopFlag, StoppedError


class CheckpointSchedule:
    """Schedule that saves the state after every plan item, and within phases every so many steps or minutes, and stops
    the run at those points once a stop was requested.
    """

    def __init__(
        self,
        state: RunState,
        save: Callable[[], None],
        position_text: Callable[[], str],
        stop: StopFlag,
        *,
        every_steps: int | None,
        every_minutes: float | None,
    ) -> None:
        """Take ``save``, which writes the current ``state``, and ``position_text``, which describes its position."""
        self._state = state
        self._save = save
        self._position_text = position_text
        self._stop = stop
        self._every_steps = every_steps
        self._every_seconds = None if every_minutes is None else 60 * every_minutes
        self._last_saved = time.monotonic()

    def after_item(self) -> None:
        """Save the state; stop if that was requested."""
        self._save_now()
        if self._stop:
            raise StoppedError(self._position_text())

    def after_step(self, steps: int, leave: Callable[[], PhaseCheckpoint]) -> None:
        """Save the state if it is time, or if the run is stopped here."""
        if not self._stop and not self._due(steps):
            return
        self._state.cursor.left = leave()
        self._save_now()
        if self._stop:
            raise StoppedError(self._position_text())

    def raise_if_stopped(self) -> None:
        """Raise ``StoppedError`` if a stop was requested: a resumed run repeats the present work."""
        if self._stop:
            raise StoppedError(self._position_text())

    def _save_now(self) -> None:
        self._save()
        self._last_saved = time.monotonic()

    def _due(self, steps: int) -> bool:
        if self._every_steps is not None and steps % self._every_steps == 0:
            return True
        return self._every_seconds is not None and time.monotonic() - self._last_saved >= self._every_seconds


class NoCheckpoints:
    """Schedule of a process that writes nothing: it takes its steps until the main process has stopped."""

    def after_item(self) -> None:
        """Do nothing."""

    def after_step(self, steps: int, leave: Callable[[], PhaseCheckpoint]) -> None:
        """Do nothing."""

    def raise_if_stopped(self) -> None:
        """Do nothing."""
