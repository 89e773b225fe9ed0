"""Processes that we start can be reached by nobody: they listen on the loopback interface alone, if at all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.distributed.listening import listening
from tests.integration.distributed.test_launching import SMOKE, ranks_of

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux's own way to look")


@LINUX
@pytest.mark.parametrize(("place", "loopback"), [("127.0.0.1", True), ("0.0.0.0", False)])
def test_a_socket_that_listens_is_found(place: str, loopback: bool) -> None:
    before = listening([os.getpid()])
    with socket.create_server((place, 0)) as server:
        ((address, port),) = listening([os.getpid()]) - before
        assert (str(address), port) == server.getsockname()
        assert address.is_loopback == loopback
    assert listening([os.getpid()]) == before


@LINUX
@pytest.mark.slow
def test_no_process_of_a_run_listens_on_anything_but_loopback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cl_lightning", *SMOKE, "trainer=ddp_cpu", "epochs_scale=1", "run_dir=run"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    try:
        seen, learning = set(), False
        deadline = time.monotonic() + 200
        while not learning and time.monotonic() < deadline:
            assert process.poll() is None, "it ended before it learnt"
            learning = any((tmp_path / "run").glob("checkpoints/*.pt"))
            ranks = ranks_of(process.pid)
            below = [child for rank in ranks for child in ranks_of(rank)]
            seen |= listening([process.pid, *ranks, *below])
            time.sleep(0.02)
        assert learning
        assert len(ranks) == 2
        assert [f"{address}:{port}" for address, port in seen if not address.is_loopback] == []
        assert seen, "the ranks exchange something, so they have been looked at"
    finally:
        process.terminate()
        process.communicate(timeout=60)
