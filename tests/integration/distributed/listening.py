"""The addresses at which processes listen, as Linux tells: the tool ``ss`` may be missing."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

_LISTEN = "0A"
"""The state of such a socket in ``/proc/net/tcp``."""


def listening(pids: Iterable[int]) -> set[tuple[IPv4Address | IPv6Address, int]]:
    """Return addresses and ports at which one of the processes accepts connections over TCP."""
    inodes = {inode for pid in pids for inode in _sockets(pid)}
    found = set()
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):  # no IPv6
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and fields[9] in inodes:
                    address, _, port = fields[1].partition(":")
                    found.add((_address(address), int(port, 16)))
    return found


def _sockets(pid: int) -> set[str]:
    """The inodes of a process's sockets."""
    found = set()
    with suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                target = os.readlink(entry)
                if target.startswith("socket:["):
                    found.add(target.removeprefix("socket:[").removesuffix("]"))
    return found


def _address(words: str) -> IPv4Address | IPv6Address:
    """From groups of 32 bits as this machine stores them."""
    stored = bytes.fromhex(words)
    groups = [stored[start : start + 4] for start in range(0, len(stored), 4)]
    packed = b"".join(group[::-1] if sys.byteorder == "little" else group for group in groups)
    address = ip_address(packed)
    assert socket.inet_pton(socket.AF_INET if address.version == 4 else socket.AF_INET6, str(address)) == packed
    return address
