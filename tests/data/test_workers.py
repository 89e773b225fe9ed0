"""Worker processes: what they need of shared memory is known before they start, and one that cannot deliver ends."""

from __future__ import annotations

import errno
import multiprocessing
import os
import time
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from cl_lightning.data import workers
from cl_lightning.data.workers import check_workers, idle_workers, reason_of_end, shared_memory, start_worker

pytestmark = pytest.mark.filterwarnings(
    "ignore:This DataLoader will create", "ignore:This process .* is multi-threaded"
)


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(workers.os, "statvfs", lambda path: SimpleNamespace(f_bavail=size // 4096, f_frsize=4096))


def test_a_batch_takes_whole_pages_for_each_tensor() -> None:
    # 16 images of 64 x 64 pixels are 48 pages, five tensors of 16 numbers one page each; 2 * 2 + 2 batches.
    assert shared_memory(2, 16, 64) == 6 * (48 + 5) * 4096
    assert shared_memory(0, 16, 64) == 0


def test_the_line_names_what_is_needed_what_is_free_and_how_many_workers_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 64 * 2**10)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        check_workers(2, 16, 64)
    assert "workers=2 needs 1 MiB of shared memory" in str(caught.value)
    assert "and /dev/shm has 64 KiB free: take smaller batches" in str(caught.value)
    assert str(caught.value).endswith(", or pass workers=0")
    free(monkeypatch, 4 * 53 * 4096)
    with pytest.raises(ValueError, match="or pass workers=1$"):
        check_workers(2, 16, 64)


def test_several_processes_share_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, shared_memory(2, 16, 64))
    check_workers(2, 16, 64)
    with pytest.raises(ValueError, match=r"^workers=2 needs"):
        check_workers(2, 16, 64, processes=2)


def test_no_workers_need_nothing_and_no_limit_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    free(monkeypatch, 0)
    check_workers(0, 256, 224)

    def missing(path: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "no such folder")

    monkeypatch.setattr(workers.os, "statvfs", missing)
    check_workers(64, 256, 224)


def test_more_workers_than_cores_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    assert idle_workers(2) == 0
    assert idle_workers(3) == 1


class _Batches(Dataset[object]):
    """Four batches, of which the second cannot be sent."""

    def __init__(self, error: OSError | None) -> None:
        self._error = error

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> object:
        return _Unsendable(self._error) if index == 1 else torch.zeros(3)


class _Unsendable:
    def __init__(self, error: OSError | None) -> None:
        self._error = error

    def __reduce__(self) -> tuple[object, ...]:
        raise self._error or TypeError("a bug of ours")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # torch's handler, in a destructor
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "no room in shared memory, /dev/shm"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "too many open files, see ulimit -n"),
        (None, "its batch could not be sent, the traceback says why"),
    ],
)
def test_a_worker_whose_batch_cannot_be_sent_ends_the_loop(
    error: OSError | None, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    loader = DataLoader(_Batches(error), batch_size=None, num_workers=2, worker_init_fn=start_worker)
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match="DataLoader worker") as caught:
        list(loader)
    assert time.monotonic() - begin < 20  # it was for ever
    assert reason_of_end(f"{caught.value} {caught.value.__cause__}") == reason
    assert ("a bug of ours" in capfd.readouterr().err) == (error is None)  # which shows its traceback


def _send_without_room() -> None:
    start_worker(0)
    multiprocessing.Queue().put(_Unsendable(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    time.sleep(20)


def test_the_reason_is_known_where_torch_does_not_tell_the_exit_code() -> None:
    worker = multiprocessing.get_context("fork").Process(target=_send_without_room)
    worker.start()
    worker.join()
    told = f"DataLoader worker (pid(s) {worker.pid}) exited unexpectedly"
    assert reason_of_end(told) == "no room in shared memory, /dev/shm"
    assert reason_of_end(told) == "exited unexpectedly; out of memory?"  # of another worker, later


def test_other_errors_have_no_reason_here() -> None:
    assert reason_of_end("CUDA error: out of memory") is None
    assert reason_of_end("DataLoader worker (pid 7) is killed by signal: Bus error.") == (
        "killed by signal: Bus; out of memory?"
    )
