"""Freed memory stays with the process, where the C library can be told so."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from cl_lightning.run.malloc import keep_freed_memory

FAULTS = """
import resource, sys, torch
from cl_lightning.run.malloc import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def steps(count):
    for _ in range(count):
        [torch.ones(1 << 24) for _ in range(3)]  # blocks of 64 MiB
steps(8)
before = faults()
steps(5)
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc")
@pytest.mark.long
def test_the_second_step_finds_the_pages_of_the_first() -> None:
    plain, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True).stdout)
        for how in ("plain", "kept")
    )
    assert kept < plain / 10


@pytest.mark.parametrize("error", [OSError, TypeError])
def test_elsewhere_nothing_happens(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(name: None) -> None:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    assert keep_freed_memory() is False
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())  # musl, macOS
    assert keep_freed_memory() is False
