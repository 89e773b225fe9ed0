"""One progress display for the whole sequence: task, phase, epoch, images per second, time left.

On a terminal it is a live line; elsewhere (logs, CI) plain lines at sensible intervals. It never affects the run.
"""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from cl_lightning.core.printable import printable_lines
from cl_lightning.core.terminal import folded, text_width
from cl_lightning.distributed.signals import detach_terminal

_FIRST_LINES, _LAST_LINES = 10.0, 300.0
"""Seconds between two plain lines: at first, and at most. In between a tenth of the elapsed time."""
_BESIDE = len(" ━━━━ 100%")
"""Characters beside the live line of progress: a short bar, and the share that is done."""


@dataclass(frozen=True)
class PhaseSpan:
    """Extent of one phase of one task."""

    task: int
    item: int
    """Index of the phase in the task's plan."""
    phase: str
    epochs: int
    steps_per_epoch: int
    images: int
    """Number of images that it trains on."""
    may_stop: bool = False
    """True if it may end before its last epoch."""


class _PerhapsGone:
    """A stream whose terminal may be closed at any time: what is written from then on is lost, without an error.

    Under ``nohup`` no signal tells of it (SIGHUP is ignored), and the run goes on; else it may come after the error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush what was written."""
        self._try(self._stream.flush)

    def _try(self, write: Callable[[], object]) -> None:
        try:
            write()
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            detach_terminal()  # else what is still in the buffer would be an error later

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Display:
    """Progress display of a run; ``spans`` are all phases ahead."""

    def __init__(self, spans: Sequence[PhaseSpan], num_tasks: int, mode: str, stream: TextIO | None = None) -> None:
        """Begin the display; ``mode``: live, lines, none, or auto (live on a terminal, else lines)."""
        stream = stream or sys.stderr
        self._stream = stream
        self._console = Console(file=cast(TextIO, _PerhapsGone(stream)))
        self._mode = ("live" if self._console.is_terminal else "lines") if mode == "auto" else mode
        self._spans = list(spans)
        self._num_tasks = num_tasks
        self._current: PhaseSpan | None = None
        self._done_in_span = self._before = 0
        self._seconds_per_image: dict[str, float] = {}
        self._started = self._span_started = self._last_line = time.monotonic()
        self._total = max(1, sum(span.images for span in spans))
        self._done = 0
        self._bar: Progress | None = None
        if self._mode == "live":
            self._bar = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=20), TaskProgressColumn(), console=self._console
            )
            self._bar_id = self._bar.add_task("starting", total=self._total)
            self._bar.start()

    def start(self, span: PhaseSpan, steps_done: int = 0) -> None:
        """Begin a phase, or resume it after ``steps_done`` of its steps."""
        if self._spans:
            self._spans.pop(0)
        before = span.images * steps_done // max(1, span.epochs * span.steps_per_epoch)
        self._current, self._done_in_span, self._before = span, before, before
        self._done += before
        self._span_started = time.monotonic()

    def advance(self, images: int, steps_done: int) -> None:
        """Count a step of the current phase."""
        assert self._current is not None
        self._done_in_span += images
        self._done += images
        if self._bar is not None:
            line = self._line(steps_done, self._console.width - _BESIDE)
            self._bar.update(self._bar_id, completed=self._done, description=line)
        elif self._mode == "lines" and time.monotonic() - self._last_line >= self._between_lines():
            self._last_line = time.monotonic()
            self._console.print(self._line(steps_done), highlight=False, markup=False, soft_wrap=True)

    def _between_lines(self) -> float:
        """Return seconds that grow with the run: the log of a day should not be a thousand times that of a minute."""
        return min(_LAST_LINES, max(_FIRST_LINES, (time.monotonic() - self._started) / 10))

    def finish(self) -> None:
        """End the current phase."""
        span = self._current
        assert span is not None
        shown = max(1, self._done_in_span - self._before)
        self._seconds_per_image[span.phase] = (time.monotonic() - self._span_started) / shown
        self._done += span.images - self._done_in_span  # keep the bar correct where the forecast was wrong
        self._current = None

    def say(self, text: str, indent: int | None = None) -> None:
        """Print a line above the display; with ``indent`` fold it to the terminal's width, the rest indented so far."""
        if self._mode == "none":
            return
        text = printable_lines(text)
        if indent is not None:
            text = folded(text, text_width(self._stream), indent)
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the live line."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _line(self, steps_done: int, width: int | None = None) -> str:
        """Return the line of progress; without the speed where it would be longer than ``width``."""
        span = self._current
        assert span is not None
        elapsed = max(1e-9, time.monotonic() - self._span_started)
        rate = (self._done_in_span - self._before) / elapsed
        epoch = min(max(0, steps_done - 1) // max(1, span.steps_per_epoch) + 1, span.epochs)  # of the step just taken
        at_most = "at most " if any(each.may_stop for each in (span, *self._spans)) else ""
        where = f"task {span.task + 1}/{self._num_tasks} | {span.phase} | epoch {epoch}/{span.epochs}"
        speed, left = f"{rate:,.0f} images/s", f"{at_most}{clock(self._seconds_left(span, rate))} left"
        whole = f"{where} | {speed} | {left}"
        return whole if width is None or len(whole) <= width else f"{where} | {left}"

    def _seconds_left(self, span: PhaseSpan, rate: float) -> float:
        """Estimate the time of the images ahead, each at the last speed of a phase of its name (else the present
        one).
        """
        now = 1 / max(rate, 1e-9)
        ahead = max(0, span.images - self._done_in_span) * now
        return ahead + sum(
            later.images * (now if later.phase == span.phase else self._seconds_per_image.get(later.phase, now))
            for later in self._spans
        )


def clock(seconds: float) -> str:
    """Format seconds as ``1:02:03`` or ``2:03``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
