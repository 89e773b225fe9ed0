"""Worker processes that load images: a check of their memory before they start, and an end of the run when one fails.

A worker sends its batches through shared memory. Where that is full (a container gives 64 MB by default), torch loses
the batch in a thread of the worker, prints a traceback and waits for ever; here such a worker exits, which the run
sees.
"""

from __future__ import annotations

import errno
import mmap
import multiprocessing.queues
import os
import re
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from cl_lightning.core.errors import InvalidSettingError

_SHARED = Path("/dev/shm")
_PREFETCHED = 2
"""Batches that torch lets each worker prefetch."""
_IN_USE = 2
"""Batches that training holds meanwhile: one in the step, one on its way."""
_INDEX_TENSORS = 5
"""Number of int64 tensors of a batch beside its images."""
_PAGE = 4096
_LOST = 70
"""Exit code (EX_SOFTWARE) of a worker whose batch cannot be sent for another reason than those below."""
_REASONS = {
    errno.ENOSPC: "no room in shared memory, /dev/shm",
    errno.EMFILE: "too many open files, see ulimit -n",
    _LOST: "its batch could not be sent, the traceback says why",
}
"""Exit codes of a worker whose batch could not be sent."""
_EXIT_CODE = mmap.mmap(-1, 1)
"""One byte that forked workers share with the run: the exit code of one whose batch could not be sent, 0 for none.

torch finds out in two ways that a worker has ended, and only one of them tells the exit code.
"""


def check_workers(workers: int, images: int, image_size: int, processes: int = 1) -> None:
    """Raise ``ValueError`` if shared memory has no space for the batches of ``workers``.

    Args:
        workers: workers of each process of the run on this machine.
        images: images of the largest batch that a worker makes.
        image_size: side in pixels; images are in colour.
        processes: processes of the run on this machine.

    Raises:
        ValueError: names what is needed, what is free, and what to type.
    """
    free = free_shared_memory()
    needed = processes * shared_memory(workers, images, image_size)
    if free is None or needed <= free:
        return
    fitting = [n for n in range(1, workers) if processes * shared_memory(n, images, image_size) <= free]
    raise InvalidSettingError(
        "workers",
        workers,
        f"needs {_size(needed)} of shared memory for batches of {images} images, and {_SHARED} has {_size(free)} free",
        max(fitting, default=0),
        "take smaller batches, or give the container more (docker run --shm-size=1g)",
    )


def shared_memory(workers: int, images: int, image_size: int) -> int:
    """Return the bytes of shared memory that ``workers`` fill at most with batches of ``images`` colour images."""
    if workers == 0:
        return 0
    batch = _whole_pages(images * 3 * image_size**2) + _INDEX_TENSORS * _whole_pages(images * 8)
    return (workers * _PREFETCHED + _IN_USE) * batch


def free_shared_memory() -> int | None:
    """Return the free bytes of ``/dev/shm``; None for a system without such a folder, and so without such a limit."""
    try:
        status = os.statvfs(_SHARED)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def idle_workers(workers: int) -> int:
    """Return the number of workers beyond the number of cores, which only compete with each other."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, workers - cores)


def start_worker(worker: int) -> None:
    """Prepare a worker process to end with its run, and when it cannot deliver.

    It ends on SIGTERM, whatever handler the run has installed. Ctrl-C reaches it too, but the run decides when it ends.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(_end)  # type: ignore[attr-defined]


def reason_of_end(message: str) -> str | None:
    """Return why a worker has ended, from torch's ``message`` about it; None for a message about something else."""
    if "DataLoader worker" not in message:
        return None
    told = re.search(r"exit code (\d+)", message)
    code, _EXIT_CODE[0] = int(told[1]) if told else _EXIT_CODE[0], 0
    if code in _REASONS:
        return _REASONS[code]
    ended = re.search(r"killed by signal: \w+", message) or re.search("exited unexpectedly", message)
    return f"{ended[0] if ended else 'no reason is known'}; out of memory?"


def _end(error: Exception, batch: Any) -> None:
    """Exit the worker whose ``batch`` could not be sent, with a code that gives the reason."""
    code = next((code for code in (errno.ENOSPC, errno.EMFILE) if os.strerror(code) in str(error)), _LOST)
    if code == _LOST:  # a bug shows itself
        traceback.print_exception(error)
        sys.stderr.flush()
    _EXIT_CODE[0] = code
    os._exit(code)


def _whole_pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


def _size(number: int) -> str:
    return f"{number / 2**20:.0f} MiB" if number >= 2**20 else f"{number / 2**10:.0f} KiB"
