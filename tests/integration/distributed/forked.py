"""Several processes in a test: forked from this one, so that none has to import torch again."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

Work = Callable[[int, int], Any]
"""(rank, world) -> what is sent back."""


def in_processes(world: int, work: Work, seconds: float = 200.0) -> list[Any]:
    """What ``work`` returns in each of ``world`` processes, in order of rank; the first error is raised here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    started = []
    for rank in range(world):
        here, there = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(there, rank, world, port, work))
        process.start()
        there.close()
        started.append((process, here))
    try:
        answers = [_received(here, seconds) for _, here in started]
        # Who waits for a process that failed fails too, but is not the cause.
        wrong = sorted((value for ok, value in answers if not ok), key=lambda text: "Connection" in text)
        assert not wrong, wrong[0]
        return [value for _, value in answers]
    finally:
        for process, _ in started:
            process.kill()
            process.join()


def _child(there: Connection, rank: int, world: int, port: int, work: Work) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), LOCAL_WORLD_SIZE=str(world))
    try:
        there.send_bytes(pickle.dumps((True, work(rank, world))))  # plainly: tensors are not to be shared
    except BaseException:
        there.send_bytes(pickle.dumps((False, traceback.format_exc())))
    finally:
        there.close()
        os._exit(0)


def _received(here: Connection, seconds: float) -> tuple[bool, Any]:
    assert here.poll(seconds), "a process says nothing"
    ok, value = pickle.loads(here.recv_bytes())
    return ok, value
