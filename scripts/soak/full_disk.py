"""Runs on a disk that is really full: a file system in memory of too few kilobytes, which grows before ``resume=``."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.soak.attack import Fault, Tally
from scripts.soak.program import run
from scripts.soak.runs import Peace, difference

_KINDS = ("icarl", "finetune", "dytox", "learn=")
_ENOUGH = "500m"


class FullDisk:
    """A full disk; needs the right to mount, without it nothing is tried."""

    name = "full disk"
    unit = "runs"

    def __init__(self, peace: Peace) -> None:
        self._peace = peace

    def trial(self, chance: random.Random, folder: Path) -> Tally:
        """Fill the disk during one run, and resume it on a larger one."""
        kind, tally, disk = chance.choice(_KINDS), Tally(), folder / "disk"
        words = self._peace.words(kind)
        expected, made = self._peace.outcome(words), self._peace.folder_of(words)
        needs = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
        run_dir, size = disk / "run", int(needs * chance.uniform(0.02, 1.3)) // 4096 * 4 + 4
        disk.mkdir()
        with _mounted(disk, size) as mounted:
            if not mounted:
                tally.answers["not tried: no right to mount"] += 1
                return tally
            end = run([*words, f"run_dir={run_dir}"], folder).refuse_traceback()
            tally.tried[kind] += 1
            tally.answers[f"exit code {end.code}"] += 1
            if end.code not in (0, 1, 2) or (end.code and "No space left on device" not in end.one_line):
                raise Fault("lost", f"{kind}: exit code {end.code}: {end.said[-2000:]}")
            _mount("remount", f"size={_ENOUGH}", disk)
            begun = (run_dir / "config.yaml").exists()
            end = run([f"resume={run_dir}"] if begun else [*words, f"run_dir={run_dir}"], folder).refuse_traceback()
            unlike = f"exit code {end.code}: {end.said[-2000:]}" if end.code else difference(run_dir, expected)
            if unlike:
                raise Fault("lost", f"{kind}, on a disk of {size} KiB: {unlike}")
        return tally


@contextmanager
def _mounted(place: Path, kilobytes: int) -> Iterator[bool]:
    mounted = _mount(f"size={kilobytes}k", "mode=700", place)
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=False, capture_output=True)


def _mount(first: str, second: str, place: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"{first},{second}", "tmpfs", str(place)]
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except OSError:
        return False
