"""Requests to stop: Ctrl-C, SIGTERM from a scheduler that wants the machine back, or a lost terminal.

The first signal asks the run to stop at the next point where it can be saved; a second Ctrl-C interrupts it at once.
"""

from __future__ import annotations

import errno
import os
import signal
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cl_lightning.core.exit_codes import STOPPED


class StoppedError(Exception):
    """A run that was stopped and saved where it can be resumed; the message says how."""


class StopFlag:
    """Flag that is true once a stop signal has arrived."""

    def __init__(self) -> None:
        self.by: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.by is not None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.by is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.by = signal.Signals(number)


def stop_signals() -> list[signal.Signals]:
    """Return the signals that ask a run to stop; without SIGHUP where that is ignored (``nohup``)."""
    hangs_up = signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hangs_up else [])]


def detach_terminal() -> None:
    """Redirect output to ``/dev/null`` if its terminal is gone: writing there would be an error."""
    for descriptor in (1, 2):
        try:
            termios.tcgetattr(descriptor)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


@contextmanager
def deferred_signals(leave_after: float | None = None) -> Iterator[StopFlag]:
    """Record signals within the block instead of ending; outside of the main thread nothing is changed.

    A process that only helps another one to take its steps cannot know when that one has stopped: ``leave_after``
    seconds after the first signal it exits at once.
    """
    stop = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    timer = None if leave_after is None else _Timer(leave_after)

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            detach_terminal()
        if timer is not None:
            timer.start_once()
        stop._ask(number, frame)

    before = {number: signal.signal(number, note) for number in stop_signals()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if timer is not None:
            timer.cancel()


class _Timer:
    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, lambda: os._exit(STOPPED))
        self._timer.daemon = True
        self._started = False

    def start_once(self) -> None:
        if not self._started:
            self._started = True
            self._timer.start()

    def cancel(self) -> None:
        self._timer.cancel()


@contextmanager
def deferred_interrupt() -> Iterator[None]:
    """Defer Ctrl-C to the end of the block: a library that is interrupted while it is imported may fail in any way.

    Raises:
        KeyboardInterrupt: Ctrl-C arrived within the block.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return
    came = threading.Event()
    signal.signal(signal.SIGINT, lambda number, frame: came.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came.is_set():
        raise KeyboardInterrupt
