"""A job of submitit that is told to make room: first the run is left where it can be gone on with, then submitit starts
the job again.

Submitit would do the second at once, in the middle of whatever the run was doing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def requeued_when_left() -> Iterator[None]:
    """Hold back submitit's signal (SIGUSR2, or what SUBMITIT_PREEMPT_SIGNAL names) until the block has been left.

    Within the block it becomes the SIGTERM that a run listens to. A block that ends by itself has nothing left to do,
    and the job is not started again. Outside of a job of submitit nothing is changed.
    """
    number = getattr(signal, "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2"))
    submitit = signal.getsignal(number)
    if "SUBMITIT_EXECUTOR" not in os.environ or not callable(submitit):
        yield
        return
    nobody_listens = signal.getsignal(signal.SIGTERM)
    asked = False

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal asked
        if signal.getsignal(signal.SIGTERM) is nobody_listens:  # the run has not begun
            submitit(signum, frame)  # does not come back
        asked = True
        signal.raise_signal(signal.SIGTERM)

    signal.signal(number, note)
    try:
        yield
    except BaseException:
        if asked:
            submitit(number, None)
        raise
    finally:
        signal.signal(number, submitit)
