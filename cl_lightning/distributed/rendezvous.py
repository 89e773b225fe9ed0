"""Rendezvous of the processes of one machine: a file in a private folder, and only the loopback interface.

Torch's default is a store that listens on all interfaces and admits any client, for as long as a run takes.
"""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RENDEZVOUS = "CL_LIGHTNING_MEET"
"""Environment variable: the file through which the processes that ``launcher.supervise`` started find each other."""
_INTERFACES = {"GLOO_SOCKET_IFNAME": "{}", "NCCL_SOCKET_IFNAME": "={}"}
"""Environment variables that set the interface of a library; NCCL takes a name without = for a prefix."""


@contextmanager
def rendezvous_file() -> Iterator[dict[str, str]]:
    """Make a private folder for the block, and yield the environment variables that each process needs.

    Only this user can look into the folder. Interfaces that the user has named stay.
    """
    with tempfile.TemporaryDirectory(prefix="cl_lightning_", ignore_cleanup_errors=True) as folder:
        yield {RENDEZVOUS: str(Path(folder) / "store"), **_on_loopback()}


def _on_loopback() -> dict[str, str]:
    name = loopback()
    unset = [variable for variable in _INTERFACES if not os.environ.get(variable)]
    return {} if name is None else {variable: _INTERFACES[variable].format(name) for variable in unset}


def loopback() -> str | None:
    """Return the name of the loopback interface (``lo``, on macOS ``lo0``); None where there is none of these names."""
    names = {name for _, name in socket.if_nameindex()}
    return next((name for name in ("lo", "lo0") if name in names), None)
