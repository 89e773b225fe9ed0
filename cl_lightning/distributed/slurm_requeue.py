"""Requeuing of a preempted submitit job: first the run is stopped and saved where it can be resumed, then submitit
starts the job again.

Submitit alone would requeue at once, in the middle of whatever the run was doing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def requeued_when_left() -> Iterator[None]:
    """Hold back submitit's signal (SIGUSR2, or the one of SUBMITIT_PREEMPT_SIGNAL) until the block has ended.

    Within the block it becomes the SIGTERM that a run handles. A block that ends by itself has nothing more to do, and
    the job is not started again. Outside of a submitit job nothing is changed.
    """
    number = getattr(signal, "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2"))
    submitit = signal.getsignal(number)
    if "SUBMITIT_EXECUTOR" not in os.environ or not callable(submitit):
        yield
        return
    default = signal.getsignal(signal.SIGTERM)
    preempted = False

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal preempted
        if signal.getsignal(signal.SIGTERM) is default:  # the run has not begun
            submitit(signum, frame)  # does not return
        preempted = True
        signal.raise_signal(signal.SIGTERM)

    signal.signal(number, note)
    try:
        yield
    except BaseException:
        if preempted:
            submitit(number, None)
        raise
    finally:
        signal.signal(number, submitit)
