"""Upper bounds of the memory that a process can have."""

from __future__ import annotations

import re
import resource
from collections.abc import Iterator
from pathlib import Path

import torch

_FILES = ("memory.max", "memory.limit_in_bytes")
"""Names of the limit of a control group, of version 2 and of version 1."""


def machine_memory(root: Path = Path("/")) -> int | None:
    """Return the bytes of memory and swap space that this process can have at most: the machine's, or the limit of its
    control groups (a container's, a scheduler's) or of ``ulimit -v``. None for a system without ``/proc/meminfo``.
    """
    try:
        info = (root / "proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    kilobytes = {name: int(size) for name, size in re.findall(r"^(\w+):\s+(\d+) kB", info, re.MULTILINE)}
    if "MemTotal" not in kilobytes:
        return None
    memory = min([kilobytes["MemTotal"] * 1024, *_group_limits(root)])
    total = memory + kilobytes.get("SwapTotal", 0) * 1024
    addresses = resource.getrlimit(resource.RLIMIT_AS)[0]
    return total if addresses == resource.RLIM_INFINITY else min(total, addresses)


def gpu_memory() -> int:
    """Return the bytes of the GPU that this process would use."""
    return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)


def _group_limits(root: Path) -> Iterator[int]:
    """Yield the limit of each control group of this process; an unlimited group has a huge number or a word instead."""
    groups = root / "sys/fs/cgroup"
    for folder in {groups, groups / "memory", *_own_groups(root, groups)}:
        for name in _FILES:
            try:
                limit = (folder / name).read_text(encoding="ascii").strip()
            except OSError:
                continue
            if limit.isdecimal():
                yield int(limit)


def _own_groups(root: Path, groups: Path) -> Iterator[Path]:
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers not in ("", "memory"):
            continue
        folder = groups / controllers / path.lstrip("/")
        while folder != groups and groups in folder.parents:
            yield folder
            folder = folder.parent
