"""One command, several processes: start the ranks of a run, watch them, end with one line and one exit code.

The supervisor only waits: it loads nothing heavy, and every rank finds in its environment the variables of torchrun,
but for the address: our ranks meet in a private folder (``rendezvous.py``). Rank 0 has the terminal; the output of the
others goes to files. A rank that is blocked in a collective cannot end when another one dies, so the supervisor has to
notice it, and to tell the cause from its consequences.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from cl_lightning.core.atomic_write import open_to_append
from cl_lightning.core.errors import UserError
from cl_lightning.core.exit_codes import INTERRUPTED, PEER_GONE, STOPPED, WRONG_INPUT
from cl_lightning.core.printable import printable_lines
from cl_lightning.distributed.rendezvous import rendezvous_file
from cl_lightning.distributed.run_lock import HANDED_OVER
from cl_lightning.distributed.signals import detach_terminal, stop_signals

STARTED_BY_US = "CL_LIGHTNING_RANK"
"""Set to 1 in the environment of every process that :func:`supervise` starts."""
_SUPERVISOR = "CL_LIGHTNING_SUPERVISOR"  # its process id, by which a rank sees that it has died already
_POLL = 0.05  # seconds
_SETTLE_AFTER = 5.0  # seconds after the first failure in which others may end by themselves, before one is the cause
_KILL_AFTER = 5.0  # seconds between SIGTERM and SIGKILL for the ranks that survive a failure


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
    command: Sequence[str], world_size: int, *, logs: Path, lock: int | None = None, grace: float = 40.0
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
        grace: seconds that rank 0 has to stop after the first signal, and that the others have to end after rank 0.

    Returns:
        The exit code of rank 0, or of the rank that was the cause (128 + N if signal N killed it); 130 or 143 if the
        ranks had to be killed after SIGINT or SIGTERM.

    Raises:
        UserError: ``logs`` cannot be written.
    """
    with ExitStack() as stack:
        request = stack.enter_context(_stop_requested())
        rendezvous = stack.enter_context(rendezvous_file())
        files = stack.enter_context(_logs(logs, world_size))
        ranks = stack.enter_context(_started(command, rendezvous, files, lock))
        verdict = _watch(ranks, request, grace)
        _end(ranks, request, verdict.kill_after)
        for log in filter(None, files) if verdict.code == ranks[0].code == WRONG_INPUT else ():
            os.truncate(log.path, log.start)  # each rank found the mistake that rank 0 has reported
    broken = (ranks[0].code is None or ranks[0].code < 0) and sys.stderr.isatty()
    for line in verdict.lines:  # a rank 0 that was killed may have left the cursor hidden, in the middle of a line
        sys.stderr.write(("\x1b[?25h\n" if broken else "") + printable_lines(line) + "\n")
    return verdict.code


@dataclass
class _StopRequest:
    """Request to end the run: the signal, its time, and whether it is at once."""

    by: signal.Signals | None = None
    since: float = 0.0
    at_once: bool = False

    def note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            detach_terminal()
        if self.by is None:
            self.by, self.since = signal.Signals(number), time.monotonic()
        elif number == signal.SIGINT:
            self.at_once = True


@contextmanager
def _stop_requested() -> Iterator[_StopRequest]:
    request, allowed = _StopRequest(), threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, request.note) for number in stop_signals() if allowed}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@dataclass
class _Process:
    """A started rank and its exit."""

    rank: int
    log: _Log | None
    popen: subprocess.Popen[bytes]
    ended: float = 0.0
    code: int | None = None  # -N if signal N killed it; None while it runs

    def look(self, now: float) -> None:
        if self.code is None and self.popen.poll() is not None:
            self.code, self.ended = self.popen.returncode, now

    @property
    def killed_by_signal(self) -> bool:
        """True if something outside killed it; SIGABRT is a library giving up by itself."""
        return self.code is not None and self.code < 0 and self.code != -signal.SIGABRT


@contextmanager
def _started(
    command: Sequence[str], rendezvous: Mapping[str, str], files: Sequence[_Log | None], lock: int | None
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
            ranks.append(_Process(index, log, popen))
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


@dataclass(frozen=True)
class _Log:
    """Output of one rank: the content of its file from ``start`` on."""

    path: Path
    start: int

    def error(self) -> str | None:
        """Return the line that names the error: our own, or the exception below a traceback, else the last one.

        Libraries still warn at exit, and torch marks each line with its rank, so the last line alone may say little.
        """
        output = b""
        with suppress(OSError), self.path.open("rb") as file:
            file.seek(max(self.start, file.seek(0, os.SEEK_END) - 65536))
            output = file.read()
        found, last, within = None, None, False
        for line in output.decode("utf-8", "replace").splitlines():
            line = re.sub(r"^\[rank\d+\]: ?", "", line).rstrip()
            if line.startswith("Traceback "):
                within = True
            elif line.startswith("error: ") or (within and line and not line[0].isspace()):
                found, within = line.removeprefix("error: "), False
            last = line.strip() or last
        return found or last


@contextmanager
def _logs(folder: Path, world_size: int) -> Iterator[list[_Log | None]]:
    """Open a log for each rank but the first; remove the empty ones after the block."""
    files: list[_Log | None] = [None]
    made = [path for path in (folder, *folder.parents) if world_size > 1 and not path.exists()]
    try:
        for index in range(1, world_size):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"rank_{index}.log"
            with os.fdopen(open_to_append(path), "ab") as file:
                files.append(_Log(path, file.seek(0, os.SEEK_END)))
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}; type another run_dir") from error
    try:
        yield files
    finally:
        with suppress(OSError):  # other files are in the folder by now
            for log in filter(None, files):
                if log.path.stat().st_size == 0:
                    log.path.unlink()
            for path in made:
                path.rmdir()


@dataclass(frozen=True)
class _Verdict:
    """Exit code and last messages of the run."""

    code: int
    lines: tuple[str, ...] = ()
    kill_after: float = 0.0  # seconds that the ranks still running have to end by themselves


def _watch(ranks: Sequence[_Process], request: _StopRequest, grace: float) -> _Verdict:
    passed_on = False
    while True:
        now = time.monotonic()
        for rank in ranks:
            rank.look(now)
        verdict = _judge(ranks, request, grace, now)
        if verdict is not None:
            return verdict
        if request.by is not None and not passed_on:
            passed_on = True
            # Rank 0 alone: its loaders' workers are its own business. It has the same terminal, or none any more.
            ranks[0].popen.send_signal(signal.SIGHUP if request.by == signal.SIGHUP else signal.SIGTERM)
        time.sleep(_POLL)


def _judge(ranks: Sequence[_Process], request: _StopRequest, grace: float, now: float) -> _Verdict | None:
    """Return the end of the run; None while it continues."""
    first, within = ranks[0], f"within {grace:g} s after"
    if request.at_once:
        return _Verdict(INTERRUPTED, ("stopped: all ranks were killed",))
    failures = [rank for rank in ranks if _failed(rank, first, request)]
    if failures:
        return _root_cause(failures, request) if _settled(ranks, failures, now) else None
    if first.code == 0:
        late = [rank for rank in ranks if rank.code is None]
        if late and now - first.ended < grace:
            return None
        return _Verdict(0, tuple(f"warning: rank {rank.rank} did not end {within} rank 0" for rank in late))
    if request.by is not None and now - request.since >= grace:
        line = f"stopped: rank 0 did not end {within} {request.by.name}, and all ranks were killed"
        return _Verdict(128 + request.by, (line,))
    return None


def _failed(rank: _Process, first: _Process, request: _StopRequest) -> bool:
    """Return True if a rank's end is a failure: not after rank 0 has ended, nor if the rank was asked to stop."""
    if rank is first or not rank.code:
        return bool(rank.code)
    stopped = request.by is not None and rank.code in (PEER_GONE, STOPPED, -signal.SIGTERM)
    return not (stopped or (rank.code == PEER_GONE and first.code == 0))


def _settled(ranks: Sequence[_Process], failures: Sequence[_Process], now: float) -> bool:
    """Return True if the cause is clear enough: a better one, or rank 0's own message, may take a moment."""
    reported = failures[0] is ranks[0] and failures[0].code != PEER_GONE
    if reported or any(rank.killed_by_signal for rank in failures) or all(rank.code is not None for rank in ranks):
        return True
    return now - min(rank.ended for rank in failures) >= _SETTLE_AFTER


def _root_cause(failures: Sequence[_Process], request: _StopRequest) -> _Verdict:
    """Return the end of the run that failures cause. They are in order of rank."""
    if failures[0].rank == 0 and failures[0].code == STOPPED:
        return _Verdict(STOPPED)  # it has stopped and saved; the others' failures follow from that
    cause = min(failures, key=lambda rank: (rank.code == PEER_GONE, not rank.killed_by_signal, rank.ended))
    if cause.code == failures[0].code == WRONG_INPUT:
        cause = failures[0]  # the user's mistake, which each rank sees: rank 0 has reported it, if it is among them
    code = cause.code or 0
    if cause.rank == 0 and code in (PEER_GONE, -signal.SIGTERM, -signal.SIGHUP) and request.by is not None:
        return _Verdict(128 + request.by, ("stopped: rank 0 could not be asked just then, and saved nothing more",))
    line = _line(cause, code)
    return _Verdict(code if code > 0 else 128 - code, (line,) if line else (), _KILL_AFTER)


def _line(cause: _Process, code: int) -> str | None:
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


def _end(ranks: Sequence[_Process], request: _StopRequest, kill_after: float) -> None:
    """Ask the ranks that still run to end, and wait ``kill_after`` seconds; :func:`_started` kills the rest."""
    deadline = time.monotonic() + kill_after
    for rank in ranks if kill_after else ():
        rank.popen.terminate()
    while time.monotonic() < deadline and not request.at_once and any(rank.code is None for rank in ranks):
        for rank in ranks:
            rank.look(time.monotonic())
        time.sleep(_POLL)
