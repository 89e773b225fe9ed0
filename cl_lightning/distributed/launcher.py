"""One command, several processes: start the ranks of a run, watch them, end with one line and one exit code.

The supervisor only waits: it loads nothing heavy, and every rank finds in its environment the variables of torchrun,
but for the address: our ranks meet in a private folder (``rendezvous.py``). Rank 0 has the terminal; the output of the
others goes to files. A rank that is blocked in a collective cannot end when another one dies, so the supervisor has to
notice it, and to tell the cause from its consequences (``verdict.py``).
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from cl_lightning.core.atomic_write import open_to_append
from cl_lightning.core.exit_codes import WRONG_INPUT
from cl_lightning.core.printable import printable_lines
from cl_lightning.distributed.rank_logs import RankLog, rank_logs
from cl_lightning.distributed.rendezvous import rendezvous_file
from cl_lightning.distributed.run_lock import HANDED_OVER
from cl_lightning.distributed.signals import stop_signals
from cl_lightning.distributed.verdict import PATIENCE, Patience, RankState, StopRequest, Verdict, judge

STARTED_BY_US = "CL_LIGHTNING_RANK"
"""Set to 1 in the environment of every process that :func:`supervise` starts."""
_SUPERVISOR = "CL_LIGHTNING_SUPERVISOR"  # its process id, by which a rank sees that it has died already
_POLL = 0.05  # seconds


def die_with_parent() -> None:
    """Kill this process when the one that started it dies, however that happens; a rank calls it first.

    On Linux the kernel does it, when the *thread* that started this process ends. Elsewhere a thread of this process
    checks once a second. A parent that has died before the call is noticed too, where it was :func:`supervise`.
    """
    parent = int(os.environ.get(_SUPERVISOR, os.getppid()))
    if not _killed_by_kernel():
        threading.Thread(target=_outlive, args=(parent,), name="die_with_parent", daemon=True).start()
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _killed_by_kernel() -> bool:
    """Ask Linux for SIGKILL at the parent's death (PR_SET_PDEATHSIG, which is 1); return True if it will come."""
    if sys.platform != "linux":
        return False
    arguments = [ctypes.c_ulong(number) for number in (signal.SIGKILL, 0, 0, 0)]
    return int(ctypes.CDLL(None).prctl(1, *arguments)) == 0


def _outlive(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


def supervise(
    command: Sequence[str], world_size: int, *, logs: Path, lock: int | None = None, patience: Patience = PATIENCE
) -> int:
    """Start ``world_size`` copies of ``command`` on this machine and wait for them.

    Each runs in a session of its own, so that Ctrl-C reaches the supervisor alone. The first SIGINT or SIGTERM is
    forwarded to rank 0 as SIGTERM, SIGHUP as itself, and rank 0's reaction is the end of the run; at a further SIGINT
    all are killed at once.
    If a rank fails, the others are ended, and one line on stderr names the cause, unless it was rank 0, which has
    reported it itself. Outside of the main thread no signal is handled.

    Args:
        command: the command of a rank; it must become the rank (``exec``), not start it.
        world_size: number of ranks, at least 1.
        logs: the folder of ``rank_1.log`` and so on, to which the output of all ranks but the first is appended. A
            file or folder that would remain empty is removed.
        lock: the descriptor of the lock on the run's folder, which rank 0 shares (``run_lock.py``).
        patience: seconds that the ranks have to end, where they may do so by themselves.

    Returns:
        The exit code of rank 0, or of the rank that was the cause (128 + N if signal N killed it); 130 or 143 if the
        ranks had to be killed after SIGINT or SIGTERM.

    Raises:
        UserError: ``logs`` cannot be written.
    """
    with ExitStack() as stack:
        request = stack.enter_context(_stop_requested())
        rendezvous = stack.enter_context(rendezvous_file())
        files = stack.enter_context(rank_logs(logs, world_size))
        ranks = stack.enter_context(_started(command, rendezvous, files, lock))
        verdict = _watch(ranks, request, patience)
        _end(ranks, request, verdict.kill_after)
        for log in filter(None, files) if verdict.code == ranks[0].state.code == WRONG_INPUT else ():
            os.truncate(log.path, log.start)  # each rank found the mistake that rank 0 has reported
    broken = (ranks[0].state.code is None or ranks[0].state.code < 0) and sys.stderr.isatty()
    for line in verdict.lines:  # a rank 0 that was killed may have left the cursor hidden, in the middle of a line
        sys.stderr.write(("\x1b[?25h\n" if broken else "") + printable_lines(line) + "\n")
    return verdict.code


@contextmanager
def _stop_requested() -> Iterator[StopRequest]:
    request, allowed = StopRequest(), threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, request.note) for number in stop_signals() if allowed}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@dataclass
class _Process:
    """A started rank, and what is known of its end."""

    popen: subprocess.Popen[bytes]
    state: RankState

    def look(self, now: float) -> None:
        if self.state.code is None and self.popen.poll() is not None:
            self.state.code, self.state.ended = self.popen.returncode, now


@contextmanager
def _started(
    command: Sequence[str], rendezvous: Mapping[str, str], files: Sequence[RankLog | None], lock: int | None
) -> Iterator[list[_Process]]:
    """Start the ranks, none of which outlives the block."""
    ranks: list[_Process] = []
    sys.stdout.flush()
    try:
        for index, log in enumerate(files):
            own = _environment(index, len(files), rendezvous)
            shared = (lock,) if lock is not None and index == 0 else ()
            own |= {HANDED_OVER: str(lock)} if shared else {}
            with nullcontext() if log is None else os.fdopen(open_to_append(log.path), "ab") as out:
                null = None if out is None else subprocess.DEVNULL
                # In a session of its own no key reaches it, and reading or writing at the terminal cannot suspend it.
                popen = subprocess.Popen(
                    command, env=own, stdin=null, stdout=out, stderr=out, start_new_session=True, pass_fds=shared
                )
            ranks.append(_Process(popen, RankState(index, log)))
        yield ranks
    finally:
        for rank in ranks:
            with suppress(ProcessLookupError, PermissionError):
                if rank.popen.poll() is None:
                    os.killpg(rank.popen.pid, signal.SIGKILL)  # with its children: it leads its session's group
        for rank in ranks:
            with suppress(subprocess.TimeoutExpired):
                rank.popen.wait(10)  # not for ever: a process that hangs in a driver does not obey even SIGKILL


def _environment(rank: int, world_size: int, rendezvous: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that torchrun would set, but ``rendezvous`` instead of an address, and the supervisor."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    # Unbuffered, a log can be followed, and its lines stand in the order in which they were printed.
    threads = {"OMP_NUM_THREADS": str(max(1, cores // world_size))}
    unless_set = threads | ({"PYTHONUNBUFFERED": "1"} if rank else {})
    return {
        **unless_set,
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        **rendezvous,
        STARTED_BY_US: "1",
        _SUPERVISOR: str(os.getpid()),
    }


def _watch(ranks: Sequence[_Process], request: StopRequest, patience: Patience) -> Verdict:
    passed_on = False
    while True:
        now = time.monotonic()
        for rank in ranks:
            rank.look(now)
        verdict = judge([rank.state for rank in ranks], request, patience, now)
        if verdict is not None:
            return verdict
        if request.by is not None and not passed_on:
            passed_on = True
            # Rank 0 alone: its loaders' workers are its own business. It has the same terminal, or none any more.
            ranks[0].popen.send_signal(signal.SIGHUP if request.by == signal.SIGHUP else signal.SIGTERM)
        time.sleep(_POLL)


def _end(ranks: Sequence[_Process], request: StopRequest, kill_after: float) -> None:
    """Ask the ranks that still run to end, and wait ``kill_after`` seconds; :func:`_started` kills the rest."""
    deadline = time.monotonic() + kill_after
    for rank in ranks if kill_after else ():
        rank.popen.terminate()
    while time.monotonic() < deadline and not request.at_once and any(rank.state.code is None for rank in ranks):
        for rank in ranks:
            rank.look(time.monotonic())
        time.sleep(_POLL)
