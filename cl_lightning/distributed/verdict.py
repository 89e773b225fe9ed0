"""Verdict on a run of several ranks: when it has ended, which rank was the cause, and what to say of it.

A rank that fails takes others with it, which fail in other ways; so the cause is told from its consequences.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

from cl_lightning.core.exit_codes import INTERRUPTED, PEER_GONE, STOPPED, WRONG_INPUT
from cl_lightning.distributed.rank_logs import RankLog
from cl_lightning.distributed.signals import detach_terminal


@dataclass(frozen=True)
class Patience:
    """Seconds that ranks have to end by themselves."""

    grace: float = 40.0
    """Time for rank 0 to stop after the first signal, and for the others to end after rank 0."""
    settle_after: float = 5.0
    """Time after the first failure in which others may end by themselves, before one is the cause."""
    kill_after: float = 5.0
    """Time between SIGTERM and SIGKILL for the ranks that survive a failure."""


PATIENCE = Patience()
"""Patience with the ranks of a user's run."""


@dataclass
class StopRequest:
    """Request to end the run: the signal, its time, and whether it is at once."""

    by: signal.Signals | None = None
    since: float = 0.0
    at_once: bool = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Take a signal, as its handler does."""
        if number == signal.SIGHUP:
            detach_terminal()
        if self.by is None:
            self.by, self.since = signal.Signals(number), time.monotonic()
        elif number == signal.SIGINT:
            self.at_once = True


@dataclass
class RankState:
    """Rank of a run and, once it has ended, its exit."""

    rank: int
    log: RankLog | None
    ended: float = 0.0
    code: int | None = None  # -N if signal N killed it; None while it runs

    @property
    def killed_by_signal(self) -> bool:
        """True if something outside killed it; SIGABRT is a library giving up by itself."""
        return self.code is not None and self.code < 0 and self.code != -signal.SIGABRT


@dataclass(frozen=True)
class Verdict:
    """Exit code and last messages of the run."""

    code: int
    lines: tuple[str, ...] = ()
    kill_after: float = 0.0  # seconds that the ranks still running have to end by themselves


def judge(ranks: Sequence[RankState], request: StopRequest, patience: Patience, now: float) -> Verdict | None:
    """Return the end of the run; None while it continues."""
    first, within = ranks[0], f"within {patience.grace:g} s after"
    if request.at_once:
        return Verdict(INTERRUPTED, ("stopped: all ranks were killed",))
    failures = [rank for rank in ranks if _failed(rank, first, request)]
    if failures:
        settled = _settled(ranks, failures, patience.settle_after, now)
        return _root_cause(failures, request, patience.kill_after) if settled else None
    if first.code == 0:
        late = [rank for rank in ranks if rank.code is None]
        if late and now - first.ended < patience.grace:
            return None
        return Verdict(0, tuple(f"warning: rank {rank.rank} did not end {within} rank 0" for rank in late))
    if request.by is not None and now - request.since >= patience.grace:
        line = f"stopped: rank 0 did not end {within} {request.by.name}, and all ranks were killed"
        return Verdict(128 + request.by, (line,))
    return None


def _failed(rank: RankState, first: RankState, request: StopRequest) -> bool:
    """Return True if a rank's end is a failure: not after rank 0 has ended, nor if the rank was asked to stop."""
    if rank is first or not rank.code:
        return bool(rank.code)
    stopped = request.by is not None and rank.code in (PEER_GONE, STOPPED, -signal.SIGTERM)
    return not (stopped or (rank.code == PEER_GONE and first.code == 0))


def _settled(ranks: Sequence[RankState], failures: Sequence[RankState], settle_after: float, now: float) -> bool:
    """Return True if the cause is clear enough: a better one, or rank 0's own message, may take a moment."""
    reported = failures[0] is ranks[0] and failures[0].code != PEER_GONE
    if reported or any(rank.killed_by_signal for rank in failures) or all(rank.code is not None for rank in ranks):
        return True
    return now - min(rank.ended for rank in failures) >= settle_after


def _root_cause(failures: Sequence[RankState], request: StopRequest, kill_after: float) -> Verdict:
    """Return the end of the run that failures cause. They are in order of rank."""
    if failures[0].rank == 0 and failures[0].code == STOPPED:
        return Verdict(STOPPED)  # it has stopped and saved; the others' failures follow from that
    cause = min(failures, key=lambda rank: (rank.code == PEER_GONE, not rank.killed_by_signal, rank.ended))
    if cause.code == failures[0].code == WRONG_INPUT:
        cause = failures[0]  # the user's mistake, which each rank sees: rank 0 has reported it, if it is among them
    code = cause.code or 0
    if cause.rank == 0 and code in (PEER_GONE, -signal.SIGTERM, -signal.SIGHUP) and request.by is not None:
        return Verdict(128 + request.by, ("stopped: rank 0 could not be asked just then, and saved nothing more",))
    line = _line(cause, code)
    return Verdict(code if code > 0 else 128 - code, (line,) if line else (), kill_after)


def _line(cause: RankState, code: int) -> str | None:
    """Return the line for the user; None if rank 0 was the cause and has reported it."""
    reason = cause.log.error() if cause.log is not None else None
    more = f" ({cause.log.path} has more)" if cause.log is not None and reason else ""
    if code < 0:
        name = "out of memory?" if code == -signal.SIGKILL else signal.strsignal(-code)
        return f"error: rank {cause.rank} was killed by signal {-code} ({name}){more}"
    if code == PEER_GONE:
        return f"error: rank {cause.rank} lost the other ranks, none of which has failed{more}"
    if cause.rank == 0:
        return None
    return f"error: rank {cause.rank}: {reason or f'ended with exit code {code}'}{more}"
