"""The place where processes of one machine meet: a file in a private folder, and nothing but the loopback interface.

The default is a store of torch's that listens on all interfaces and lets in whoever asks, for as long as a run takes.
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
"""Environment variables that say on which interface a library listens; NCCL takes a name without = for a beginning."""


@contextmanager
def rendezvous_file() -> Iterator[dict[str, str]]:
    """Make a private folder for the block, and give what the environment of each process must hold.

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
