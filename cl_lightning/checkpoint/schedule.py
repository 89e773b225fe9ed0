"""When the state of a run is kept, and where the run may be left."""

from __future__ import annotations

import time
from collections.abc import Callable

from cl_lightning.checkpoint.state import RunState
from cl_lightning.core.types import PhaseCheckpoint
from cl_lightning.distributed.signals import StopFlag, StoppedError


class CheckpointSchedule:
    """Keeps the state after every plan item, and within phases every so many steps or minutes; lets the run be left at
    those places when somebody has asked.
    """

    def __init__(
        self,
        state: RunState,
        save: Callable[[], None],
        place: Callable[[], str],
        stop: StopFlag,
        *,
        every_steps: int | None,
        every_minutes: float | None,
    ) -> None:
        """``save`` writes ``state`` as it is then, ``place`` says in words where that is."""
        self._state = state
        self._save = save
        self._place = place
        self._stop = stop
        self._every_steps = every_steps
        self._every_seconds = None if every_minutes is None else 60 * every_minutes
        self._last_saved = time.monotonic()

    def after_item(self) -> None:
        """Keep the state; leave if that was asked for."""
        self._keep()
        if self._stop:
            raise StoppedError(self._place())

    def after_step(self, steps: int, leave: Callable[[], PhaseCheckpoint]) -> None:
        """Keep the state if it is time, or if this is where the run is left."""
        if not self._stop and not self._due(steps):
            return
        self._state.cursor.left = leave()
        self._keep()
        if self._stop:
            raise StoppedError(self._place())

    def raise_if_stopped(self) -> None:
        """Leave if that was asked for: what is being done will be done anew."""
        if self._stop:
            raise StoppedError(self._place())

    def _keep(self) -> None:
        self._save()
        self._last_saved = time.monotonic()

    def _due(self, steps: int) -> bool:
        if self._every_steps is not None and steps % self._every_steps == 0:
            return True
        return self._every_seconds is not None and time.monotonic() - self._last_saved >= self._every_seconds


class NoCheckpoints:
    """What a process does that writes nothing: it takes its steps until the one that writes has left."""

    def after_item(self) -> None:
        """Nothing."""

    def after_step(self, steps: int, leave: Callable[[], PhaseCheckpoint]) -> None:
        """Nothing."""

    def raise_if_stopped(self) -> None:
        """Nothing."""
