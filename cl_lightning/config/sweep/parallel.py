"""Parallel jobs on one terminal (Hydra's joblib launcher): marked output, and all of them stop at Ctrl-C."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from types import FrameType
from typing import Any, TextIO

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

_left: list[int] = []
"""Numbers of the jobs of this process that were interrupted: it begins no other."""


def is_side_by_side(hydra: Any) -> bool:
    """Return whether the multirun with this ``hydra`` node runs its jobs in processes that share the terminal."""
    return hydra.mode is RunMode.MULTIRUN and "joblib" in str(hydra.launcher._target_)


def has_left() -> bool:
    """Return whether a job of this process was interrupted."""
    return bool(_left)


@contextmanager
def as_job_beside_others() -> Iterator[None]:
    """Mark the output of this job where others run in parallel, and let Ctrl-C reach jobs alone."""
    hydra = HydraConfig.get()
    if not is_side_by_side(hydra):
        yield
        return
    marked = _Marked(sys.stderr, f"job {hydra.job.num}: ")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with redirect_stderr(marked):
            yield
    except BaseException as error:
        if not isinstance(error, Exception):
            _left.append(hydra.job.num)
        raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a process that only waits must not take the others along
        marked.close()


@contextmanager
def leaving_together() -> Iterator[None]:
    """Defer the first Ctrl-C of the process that waits for such jobs, which get it too, until they have stopped."""
    asked = False
    before = signal.getsignal(signal.SIGINT)

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        sys.stderr.write("\nwaiting until the jobs can be left; Ctrl-C again to end them on the spot\n")

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if asked:
            raise KeyboardInterrupt


class _Marked(io.TextIOBase):
    """A stream whose lines begin with a mark; no terminal, so that no progress bar is drawn on it."""

    def __init__(self, stream: TextIO, mark: str) -> None:
        super().__init__()
        self._stream = stream
        self._mark = mark
        self._begun = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        self._stream.write("".join(f"{self._mark}{line}\n" for line in lines if line.strip()))
        return len(text)

    def flush(self) -> None:
        if not self.closed:
            self._stream.flush()

    def close(self) -> None:
        if self._begun.strip():
            self.write("\n")
        super().close()
