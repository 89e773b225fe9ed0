"""One progress display for the whole sequence: task, phase, epoch, images per second, time left.

On a terminal it is a live line; elsewhere (logs, CI) plain lines at sensible intervals. It never influences the run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from cl_lightning.core.printable import printable_lines

_FIRST_LINES, _LAST_LINES = 10.0, 300.0
"""Seconds between two plain lines: at first, and at most. In between a tenth of the time that has passed."""


@dataclass(frozen=True)
class PhaseSpan:
    """A stretch of the run: one phase of one task."""

    task: int
    place: int
    """Which item of the task's plan it is."""
    phase: str
    epochs: int
    steps_per_epoch: int
    images: int
    """Images that it will train on."""


class Display:
    """Shows where the run stands; ``legs`` are all phases that lie ahead."""

    def __init__(self, legs: Sequence[PhaseSpan], num_tasks: int, mode: str, stream: TextIO | None = None) -> None:
        """``mode``: live, lines, none, or auto (live on a terminal, else lines)."""
        stream = stream or sys.stderr
        self._console = Console(file=stream)
        self._mode = ("live" if self._console.is_terminal else "lines") if mode == "auto" else mode
        self._legs = list(legs)
        self._num_tasks = num_tasks
        self._current: PhaseSpan | None = None
        self._done_in_leg = self._before = 0
        self._seconds_per_image: dict[str, float] = {}
        self._started = self._leg_started = self._last_line = time.monotonic()
        self._total = max(1, sum(leg.images for leg in legs))
        self._done = 0
        self._bar: Progress | None = None
        if self._mode == "live":
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=20), TaskProgressColumn(), console=self._console
            )
            self._bar_id = self._bar.add_task("starting", total=self._total)
            self._bar.start()

    def start(self, leg: PhaseSpan, steps_done: int = 0) -> None:
        """A phase begins, or goes on after ``steps_done`` of its steps."""
        if self._legs:
            self._legs.pop(0)
        before = leg.images * steps_done // max(1, leg.epochs * leg.steps_per_epoch)
        self._current, self._done_in_leg, self._before = leg, before, before
        self._done += before
        self._leg_started = time.monotonic()

    def advance(self, images: int, steps_done: int) -> None:
        """A step of the current phase has been taken."""
        assert self._current is not None
        self._done_in_leg += images
        self._done += images
        if self._bar is not None:
            self._bar.update(self._bar_id, completed=self._done, description=self._line(steps_done))
        elif self._mode == "lines" and time.monotonic() - self._last_line >= self._between_lines():
            self._last_line = time.monotonic()
            self._console.print(self._line(steps_done), highlight=False, markup=False, soft_wrap=True)

    def _between_lines(self) -> float:
        """A log of a day is not to be a thousand times as long as one of a minute."""
        return min(_LAST_LINES, max(_FIRST_LINES, (time.monotonic() - self._started) / 10))

    def finish(self) -> None:
        """The current phase has ended."""
        leg = self._current
        assert leg is not None
        shown = max(1, self._done_in_leg - self._before)
        self._seconds_per_image[leg.phase] = (time.monotonic() - self._leg_started) / shown
        self._done += leg.images - self._done_in_leg  # keep the bar true where the forecast was not
        self._current = None

    def say(self, text: str) -> None:
        """Print a line above the display."""
        if self._mode != "none":
            self._console.print(printable_lines(text), highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Take the live line away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _line(self, steps_done: int) -> str:
        leg = self._current
        assert leg is not None
        elapsed = max(1e-9, time.monotonic() - self._leg_started)
        rate = (self._done_in_leg - self._before) / elapsed
        epoch = min(max(0, steps_done - 1) // max(1, leg.steps_per_epoch) + 1, leg.epochs)  # of the step just taken
        return (
            f"task {leg.task + 1}/{self._num_tasks} | {leg.phase} | epoch {epoch}/{leg.epochs} | "
            f"{rate:,.0f} images/s | {clock(self._seconds_left(leg, rate))} left"
        )

    def _seconds_left(self, leg: PhaseSpan, rate: float) -> float:
        """Images ahead, each at the speed last seen in a phase of its name (else at the present one)."""
        now = 1 / max(rate, 1e-9)
        ahead = max(0, leg.images - self._done_in_leg) * now
        return ahead + sum(
            later.images * (now if later.phase == leg.phase else self._seconds_per_image.get(later.phase, now))
            for later in self._legs
        )


def clock(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
