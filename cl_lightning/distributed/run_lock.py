"""Lock on a run's folder for the whole life of the run: a second writer is refused before it has touched anything.

The lock is the kernel's (``flock`` on ``RUN_DIR/.lock``), so it ends with the process that holds it, however that ends.
Workers that a process forks, and programs that it starts, do not inherit it. A rank 0 that was started for the run
shares the lock of its supervisor; it is free when both have ended.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from cl_lightning.core.atomic_write import open_alone, remove_parts
from cl_lightning.core.errors import RunAbortedError, UserError
from cl_lightning.core.paths import display_path
from cl_lightning.distributed.signals import StoppedError

LOCK = ".lock"
"""Name of the lock file in a run's folder."""
HANDED_OVER = "CL_LIGHTNING_LOCK"
"""Environment variable with the descriptor of the lock, for a rank 0 that was started with it."""

_DESCRIPTOR = re.compile(r"[0-9]{1,9}")
_TYPED = ".hydra"
_BEFORE = frozenset({LOCK, "run.log", "metrics.csv", "wandb_id", _TYPED})
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
log = logging.getLogger(__name__)
_held: set[int] = set()


@contextmanager
def only_writer(run_dir: Path) -> Iterator[int]:
    """Make the folder ``run_dir`` where it is missing, and be its only writer for the block; yield the descriptor.

    A folder in which no run has begun when the block ends is left as it was, unless a bug of ours ended it.

    Raises:
        UserError: another process writes there.
        OSError: no right to write, or something in the way.
    """
    had = {entry.name for entry in run_dir.iterdir()} if run_dir.is_dir() else None
    shared = _handed_over(run_dir)
    descriptor = _locked(run_dir) if shared is None else shared
    _held.add(descriptor)
    try:
        _tidy(run_dir)
        yield descriptor
    except (UserError, RunAbortedError, StoppedError, KeyboardInterrupt):  # of a bug of ours run.log has the traceback
        _leave_as_found(run_dir, had)
        raise
    else:
        _leave_as_found(run_dir, had)  # processes that were started for it may have reported the mistake
    finally:
        if shared is None and _is_at(descriptor, run_dir / LOCK):
            (run_dir / LOCK).unlink(missing_ok=True)  # while we hold it: another process finds out in _locked
        _held.discard(descriptor)
        os.close(descriptor)


def _locked(run_dir: Path) -> int:
    """Acquire the lock and return its descriptor."""
    while True:
        run_dir.mkdir(parents=True, exist_ok=True)
        descriptor = open_alone(run_dir / LOCK)
        try:
            _lock(descriptor, run_dir)
            if _is_at(descriptor, run_dir / LOCK):  # else the previous holder has just removed its folder
                _sign(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, run_dir: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"{display_path(run_dir)} is being written by {_signature(descriptor)}: wait until that has ended, or type "
            "run_dir=DIR with another folder for a new run"
        ) from error
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise
        log.warning("%s: its file system keeps no locks; let no second process write there", run_dir)


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    return False


def _sign(descriptor: int) -> None:
    """Write the holder of the lock into its file, for a process that is refused."""
    holder = {"pid": os.getpid(), "host": platform.node(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    with suppress(OSError):  # a full disk fails where it matters
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _signature(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 1000, 0))
        return f"process {int(holder['pid'])} on {holder['host']!s:.64} since {holder['since']!s:.19}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _handed_over(run_dir: Path) -> int | None:
    """Return the lock that the parent process handed over, if there is one."""
    given = os.environ.pop(HANDED_OVER, "")
    if not _DESCRIPTOR.fullmatch(given):
        return None
    descriptor = int(given)
    with suppress(OSError):  # no open file of that number: somebody else has set the variable
        if _is_at(descriptor, run_dir / LOCK):
            os.set_inheritable(descriptor, False)
            return descriptor
    return None


def _tidy(run_dir: Path) -> None:
    """Remove the temporary files of killed writers; a report may be in writing by another process just now."""
    remove_parts(run_dir, *(f"{name}*" for name in ("config", "results", "accuracy", "metrics", "images", "wandb_id")))
    if not (run_dir / "checkpoints").is_symlink():
        remove_parts(run_dir / "checkpoints")
        if not (run_dir / "checkpoints" / "parts").is_symlink():
            remove_parts(run_dir / "checkpoints" / "parts")
    for part in run_dir.glob(".exemplars.*part"):
        shutil.rmtree(part, ignore_errors=True)


def _leave_as_found(run_dir: Path, had: set[str] | None) -> None:
    """Remove the files of a run that did not begin: a mistake was reported, and nothing came of it."""
    with suppress(OSError):
        new = {entry.name for entry in run_dir.iterdir()} - (had or set())
        if not new <= _BEFORE:
            return
        if _TYPED in new:
            shutil.rmtree(run_dir / _TYPED)
        for name in new - {_TYPED}:
            (run_dir / name).unlink()
        if had is None:
            run_dir.rmdir()


def holds_no_run(folder: Path) -> bool:
    """Return True if a folder holds nothing, or only files of a run that was killed before it began."""
    return all(name in _BEFORE or fnmatch(name, ".*.part") for name in os.listdir(folder))


def _let_go() -> None:
    """Close the lock in a forked child: it is its parent's alone."""
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_let_go)
