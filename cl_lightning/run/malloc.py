"""The setting of glibc that keeps the memory which a training step frees for the next one.

By default glibc returns large blocks at once, and every step then pays for millions of fresh, zeroed pages. Only speed
and the resident size between steps depend on this; other C libraries have no such switch.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # glibc's malloc.h
_OPTIONS = {_MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: 64 << 20}
"""Options of mallopt: no block of its own from the system, never shrink, grow by 64 MiB."""


def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory for the rest of the process; return whether it does."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # TypeError: Windows has no library without a name
        return False
    return all(mallopt(parameter, value) == 1 for parameter, value in _OPTIONS.items())
