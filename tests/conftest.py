"""What holds for every test: no network, one thread, no cloud logger, no GPU taken for granted.

Nothing is seeded here: randomness is an argument everywhere, and a test that needs a global seed has found a bug.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", MPLBACKEND="Agg", OMP_NUM_THREADS="1", WANDB_MODE="disabled")
os.environ["CL_LIGHTNING_REPORT"] = "false"  # a page takes seconds; tests of it ask for it
os.environ["CL_LIGHTNING_CACHE"] = tempfile.mkdtemp(prefix="cl_lightning-tests-")  # not the developer's own
if shutil.which("nvidia-smi") is None:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported: its kernels can then be tried on a CPU
os.environ.pop("HYDRA_FULL_ERROR", None)  # users see one line; so do tests
os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])  # for subprocesses, installed or not

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
# Autograd looks for devices at the first backward of a process. After an export it takes fake ones for real and starts
# threads for them, and then no forked child (tests/integration/distributed) may go backward: so it looks now.
torch.zeros((), requires_grad=True).backward()
settings.register_profile("repeatable", deadline=None, derandomize=True)  # a first call of torch takes its time
settings.load_profile("repeatable")


class NetworkError(RuntimeError):
    """A test tried to leave this machine."""


def is_local(host: object) -> bool:
    """Whether reaching ``host`` stays on this machine."""
    if isinstance(host, bytes):
        host = host.decode()
    if host in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return False


def refuse_network(event: str, arguments: tuple[object, ...]) -> None:
    """An audit hook: it also sees imports, collection, threads and forked processes, where a fixture would not."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):  # a path is a Unix socket
        host = arguments[1][0]
    else:
        return
    if not is_local(host):
        raise NetworkError(f"{event} to {host!r}: tests need no network, give them a small file instead")


sys.addaudithook(refuse_network)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked ``gpu`` where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
